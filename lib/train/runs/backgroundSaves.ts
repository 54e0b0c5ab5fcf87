import { BackgroundWriter } from "../../checkpoint/index.js";

/** What a save took. */
export interface SaveTimes {
  /** Milliseconds that the training was held up. */
  stallMs: number;
  /** Milliseconds from the call to the end of writing. */
  totalMs: number;
}

/** How one save goes. */
export interface Save<Saved> {
  /** What is written: tensors and plain values. */
  value: unknown;
  /** Puts it in place; calls `write` once, with the path of the file, and may do more once that is done. */
  place(write: (path: string) => Promise<void>): Promise<Saved>;
  /** Is told once all of it is in place. */
  done(saved: Saved, times: SaveTimes): void;
  /** What is thrown later for an error of `place`. Default: the error itself. */
  failure?(error: unknown): Error;
}

/** Saves one state after another while the training goes on. */
export class BackgroundSaves {
  readonly #writer: BackgroundWriter;
  #saving: Promise<void> = Promise.resolve();
  #failure: Error | null = null;

  /** @param background whether the training goes on while a file is written, at the price of a copy of its state in memory */
  constructor(private readonly background: boolean) {
    this.#writer = new BackgroundWriter({ synchronous: !background });
  }

  /** Takes the memory for a copy of such a value, so that the first save waits no longer than the others. */
  reserve(value: unknown): void {
    this.#writer.reserve(value);
  }

  /**
   * Copies a value and begins to write it; waits for the save before. When the promise resolves, the training may change its tensors.
   *
   * @throws the failure of the save before, if nobody has heard of it
   */
  async save<Saved>({ value, place, done, failure = (error) => error as Error }: Save<Saved>): Promise<void> {
    const start = performance.now();
    await this.flush();
    await new Promise<void>((copied) => {
      let stallMs = 0;
      const write = async (path: string): Promise<void> => {
        const writing = await this.#writer.save(path, value);
        stallMs = performance.now() - start;
        copied();
        await writing.done;
      };
      this.#saving = place(write)
        .then((saved) => done(saved, { stallMs, totalMs: performance.now() - start }))
        .catch((error: unknown) => void (this.#failure = failure(error)))
        .finally(copied);
    });
    if (!this.background) await this.flush();
  }

  /** @throws the failure of a save meanwhile; once */
  check(): void {
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) throw failure;
  }

  /** Waits until what was saved is in place. @throws the failure of that save, if nobody has heard of it */
  async flush(): Promise<void> {
    await this.#saving;
    this.check();
  }

  /** Waits for the file that is being written and frees the copy's memory. Never throws. */
  async close(): Promise<void> {
    await this.#saving;
    await this.#writer.close();
  }
}
