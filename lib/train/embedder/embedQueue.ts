/** An image of a call. */
export interface QueuedImage {
  call: EmbedCall;
  index: number;
}

/** What became of an image. */
export type EmbedOutcome = PromiseSettledResult<Float32Array<ArrayBuffer>>;

/** A call of `embed` that waits for its vectors. */
export interface EmbedCall {
  readonly images: readonly (string | Uint8Array)[];
  readonly outcomes: EmbedOutcome[];
  /** Whether its images count as the queue's. One that waits for its turn holds up its own caller instead. */
  readonly counts: boolean;
  readonly since: number;
  /** The next image to be taken. */
  next: number;
  /** Images without an outcome. */
  left: number;
  resolve(outcomes: EmbedOutcome[]): void;
  reject(reason: unknown): void;
}

/** Images that wait, in the order of their calls; calls at the same time take turns, so that a large one does not hold up a small one. */
export class EmbedQueue {
  readonly #calls: EmbedCall[] = [];
  #turn = 0;
  #images = 0;
  #counted = 0;

  /** Images that wait. */
  get images(): number {
    return this.#images;
  }

  /** Those of them that the queue's limit is about. */
  get counted(): number {
    return this.#counted;
  }

  /** When the call came that waits longest; Infinity for none. */
  get since(): number {
    return this.#calls[0]?.since ?? Infinity;
  }

  add(call: EmbedCall): void {
    this.#calls.push(call);
    this.#images += call.images.length;
    if (call.counts) this.#counted += call.images.length;
  }

  /** Takes away what is left of a call. */
  remove(call: EmbedCall): void {
    const at = this.#calls.indexOf(call);
    if (at < 0) return;
    this.#calls.splice(at, 1);
    if (at < this.#turn) this.#turn--;
    this.#took(call, call.images.length - call.next);
  }

  /** Up to `most` images, one of each call in turn. */
  take(most: number): QueuedImage[] {
    const taken: QueuedImage[] = [];
    while (taken.length < most && this.#calls.length > 0) {
      if (this.#turn >= this.#calls.length) this.#turn = 0;
      const call = this.#calls[this.#turn]!;
      taken.push({ call, index: call.next++ });
      this.#took(call, 1);
      if (call.next === call.images.length) this.#calls.splice(this.#turn, 1);
      else this.#turn++;
    }
    return taken;
  }

  #took(call: EmbedCall, images: number): void {
    this.#images -= images;
    if (call.counts) this.#counted -= images;
  }
}
