import { native } from "../../native.js";
import { empty, keep, Tensor } from "../../torch/index.js";

/** Two tensors [N, 3, H, W] for the views of a batch. */
export type Views = [Tensor, Tensor];

/** What the tensors of a batch look like. */
export interface ViewShape {
  height: number;
  width: number;
  dtype: "float32" | "uint8";
  /** Page-locked memory, from which a GPU copies while the CPU goes on. */
  pinned: boolean;
}

/**
 * The memory of batches, used again and again: fresh memory costs a page fault for every 4 KiB that is written first, a quarter of the
 * time of making a view.
 */
export class ViewBuffers {
  readonly #shape: ViewShape;
  readonly #free: Views[] = [];
  #closed = false;

  /**
   * @param size images in a batch; other sizes are made, but not kept
   * @param most pairs that are kept for later
   */
  constructor(readonly size: number, shape: ViewShape, readonly most: number) {
    this.#shape = shape;
  }

  /** Tensors whose values are not defined. */
  take(size: number): Views {
    const kept = size === this.size ? this.#free.pop() : undefined;
    if (kept) return kept;
    const { height, width, dtype, pinned } = this.#shape;
    const view = (): Tensor => keep(empty([size, 3, height, width], { dtype, pinMemory: pinned }));
    return [view(), view()];
  }

  /** Takes the tensors back from a consumer, for whom they are disposed of. */
  giveBack(views: Views): void {
    const usable = !this.#closed && this.#free.length < this.most && views.every((view) => this.#isUnused(view));
    if (!usable) return views.forEach((view) => view.dispose());
    // Objects that somebody may still hold must not show the next batch.
    this.#free.push(views.map((view) => keep(new Tensor(view.takeSlots()[0]!))) as Views);
  }

  // A graph, a view or another thread may still hold the memory: then it is theirs.
  #isUnused(view: Tensor): boolean {
    return !view.disposed && !view.requiresGrad && view.shape[0] === this.size && native.isExclusive(view.slot);
  }

  close(): void {
    this.#closed = true;
    this.#free.splice(0).forEach((views) => views.forEach((view) => view.dispose()));
  }
}
