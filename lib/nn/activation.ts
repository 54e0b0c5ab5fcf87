import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** `max(x, 0)`. With `inPlace` it overwrites its input, which saves memory where nothing else reads that input. */
export class ReLU extends Module {
  constructor(readonly inPlace = false) {
    super();
  }

  forward(x: Tensor): Tensor {
    return this.inPlace ? torch.relu_(x) : torch.relu(x);
  }
}

/** `x · Φ(x)` with the exact normal distribution function, not the tanh approximation. */
export class GELU extends Module {
  forward(x: Tensor): Tensor {
    return torch.gelu(x);
  }
}

/** Returns its input: stands where a model has no head or no normalisation. */
export class Identity extends Module {
  forward(x: Tensor): Tensor {
    return x;
  }
}
