import { native } from "../../native.js";
import { empty, keep, Tensor } from "../../torch/index.js";

/** What the tensors of a batch look like. */
export interface ViewShape {
  /** How many tensors [N, 3, H, W] a batch has. */
  views: number;
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
  readonly #free: Tensor[][] = [];
  #closed = false;

  /**
   * @param size images in a batch; other sizes are made, but not kept
   * @param most batches that are kept for later
   */
  constructor(readonly size: number, shape: ViewShape, readonly most: number) {
    this.#shape = shape;
  }

  /** Tensors whose values are not defined. */
  take(size: number): Tensor[] {
    const kept = size === this.size ? this.#free.pop() : undefined;
    if (kept) return kept;
    const { views, height, width, dtype, pinned } = this.#shape;
    return Array.from({ length: views }, () => keep(empty([size, 3, height, width], { dtype, pinMemory: pinned })));
  }

  /** Takes the tensors back from a consumer, for whom they are disposed of. */
  giveBack(views: Tensor[]): void {
    const usable = !this.#closed && this.#free.length < this.most && views.every((view) => this.#isUnused(view));
    if (!usable) return views.forEach((view) => view.dispose());
    // Objects that somebody may still hold must not show the next batch.
    this.#free.push(views.map((view) => keep(view.moveHandle())));
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
