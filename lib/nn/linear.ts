import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { defaultLinearInit_ } from "./init.js";
import { Module } from "./module.js";

/** `y = x · weightᵀ + bias` on the last dimension: `[..., inFeatures]` to `[..., outFeatures]`. */
export class Linear extends Module {
  readonly weight: Tensor; // [outFeatures, inFeatures]
  readonly bias: Tensor | null; // [outFeatures]

  constructor(readonly inFeatures: number, readonly outFeatures: number, { bias = true } = {}) {
    super();
    this.weight = this.parameter("weight", torch.empty([outFeatures, inFeatures]));
    this.bias = bias ? this.parameter("bias", torch.empty([outFeatures])) : null;
    defaultLinearInit_(this.weight, this.bias);
  }

  forward(x: Tensor): Tensor {
    return torch.linear(x, this.weight, this.bias);
  }

  /** GELU of `forward`: without gradient, where that is possible, in one pass. */
  forwardGelu(x: Tensor): Tensor {
    return torch.linearGelu(x, this.weight, this.bias);
  }
}
