import { native } from "../native.js";
import type { Tensor } from "../torch/index.js";
import type { ProcessGroup } from "./processGroup.js";

/** How a {@link GradientAverager} packs gradients. */
export interface GradientAveragerOptions {
  /** Gradients travel together in buckets of about this size; smaller ones start earlier, larger ones use the network better. Default: 25. */
  bucketMegabytes?: number;
}

/**
 * Averages gradients over all ranks, so that each rank's optimiser does the same update: that of the whole batch, where every rank has
 * an equal part of it and a loss that is a mean.
 *
 * ```ts
 * averager.prepare();
 * loss.backward();     // all-reduces of finished buckets run while the rest is computed (c10d's Reducer)
 * optimizer.step();
 * ```
 *
 * A backward without `prepare()` before it adds to the gradients on this rank alone; `average()` then averages what is there. Gradients
 * that were averaged are views of the buckets: setting them to null, as `zeroGrad` does, or keeping them is both fine.
 */
export class GradientAverager {
  #handle: number | null;

  /**
   * All ranks must give the same parameters in the same order; those that need no gradient are passed over. A loss must depend on all
   * others.
   *
   * @throws Error where the parameters of the ranks differ in number, shape or type
   */
  constructor(parameters: Iterable<Tensor>, group: ProcessGroup, { bucketMegabytes = 25 }: GradientAveragerOptions = {}) {
    if (!(bucketMegabytes > 0)) throw new RangeError(`bucketMegabytes is ${bucketMegabytes}; it is a size above 0, 25 by default`);
    const trained = [...parameters].filter((parameter) => parameter.requiresGrad);
    if (trained.length === 0) throw new RangeError("there is no parameter that needs a gradient; give a network that is trained");
    const slots = trained.map((parameter) => parameter.liveSlot("GradientAverager"));
    this.#handle = native.createReducer(group.handle(), slots, Math.ceil(bucketMegabytes * 2 ** 20));
  }

  /** To be called before a backward whose gradients are to be averaged while it runs; they are when `backward` returns. */
  prepare(): void {
    native.prepareReducer(this.#live());
  }

  /** Averages the gradients that are there, as after several backwards. Parameters without one must be the same on all ranks. */
  average(): void {
    native.averageGradients(this.#live());
  }

  /** Lets go of parameters and buckets. Calling it again does nothing. */
  dispose(): void {
    if (this.#handle !== null) native.disposeReducer(this.#handle);
    this.#handle = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #live(): number {
    if (this.#handle === null) throw new Error("the averager was disposed of; make another one");
    return this.#handle;
  }
}
