import type { Module } from "../../nn/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/**
 * Exponential moving average of a network's weights, in a second network of the same architecture: after each step
 * `average ← decay · average + (1 - decay) · weight`, for running statistics too (timm's `ModelEma`, which DeiT's recipes use with a decay
 * of 0.99996). Whole numbers, such as BatchNorm's counts, are copied.
 *
 * @example
 * const average = new ModelAverage(model, copyOfModel, 0.99996); // copyOfModel gets model's present weights
 * average.update();
 */
export class ModelAverage<M extends Module = Module> {
  readonly #averages: Tensor[] = [];
  readonly #weights: Tensor[] = [];
  readonly #copies: [to: Tensor, from: Tensor][] = [];

  /** @param network built like `model`; it belongs to the average from here on, gets the weights of `model` and no gradients */
  constructor(model: M, readonly network: M, readonly decay: number) {
    network.loadStateDict(model.stateDict());
    network.requiresGrad_(false);
    network.eval();
    const own = network.stateDict();
    for (const [key, weight] of model.stateDict()) {
      const average = own.get(key)!;
      if (weight.dtype.includes("float")) {
        this.#averages.push(average);
        this.#weights.push(weight);
      } else {
        this.#copies.push([average, weight]);
      }
    }
  }

  /** Call after each of the optimiser's steps. */
  update(): void {
    torch.noGrad(() =>
      torch.scope(() => {
        torch._foreachMul_(this.#averages, this.decay);
        torch._foreachAdd_(this.#averages, this.#weights, { alpha: 1 - this.decay });
        for (const [to, from] of this.#copies) to.copy_(from);
      }),
    );
  }

  dispose(): void {
    this.network.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
