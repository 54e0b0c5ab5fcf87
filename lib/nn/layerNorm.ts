import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** Normalises the last dimension to mean 0 and variance 1, then scales and shifts it: `[..., features]` to the same shape. */
export class LayerNorm extends Module {
  readonly weight: Tensor; // [features]
  readonly bias: Tensor; // [features]
  readonly #shape: number[];

  constructor(features: number, readonly eps = 1e-5) {
    super();
    this.weight = this.parameter("weight", torch.ones([features]));
    this.bias = this.parameter("bias", torch.zeros([features]));
    this.#shape = [features];
  }

  forward(x: Tensor): Tensor {
    return torch.layerNorm(x, this.#shape, this.weight, this.bias, this.eps);
  }
}
