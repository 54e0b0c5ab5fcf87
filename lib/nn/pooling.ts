import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** Largest value in each window: `[N, C, H, W]` to `[N, C, H', W']`. */
export class MaxPool2d extends Module {
  readonly #kernel: number[];
  readonly #stride: number[];
  readonly #padding: number[];

  constructor(kernelSize: number, { stride = kernelSize, padding = 0 } = {}) {
    super();
    this.#kernel = [kernelSize, kernelSize];
    this.#stride = [stride, stride];
    this.#padding = [padding, padding];
  }

  forward(x: Tensor): Tensor {
    return torch.maxPool2d(x, this.#kernel, this.#stride, this.#padding);
  }
}
