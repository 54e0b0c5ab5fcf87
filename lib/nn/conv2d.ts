import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { defaultLinearInit_ } from "./init.js";
import { Module } from "./module.js";

/** As in PyTorch. */
export interface Conv2dOptions {
  stride?: number;
  padding?: number;
  dilation?: number;
  groups?: number;
  bias?: boolean;
  /** Store the weight channels last. With an input stored so too, convolution runs faster; values and keys are the same. Default false. */
  channelsLast?: boolean;
}

/** 2-D convolution with a square or rectangular kernel: `[N, inChannels, H, W]` to `[N, outChannels, H', W']`. */
export class Conv2d extends Module {
  readonly weight: Tensor; // [outChannels, inChannels / groups, kernel height, kernel width]
  readonly bias: Tensor | null; // [outChannels]
  /** Vertical and horizontal. */
  readonly stride: [number, number];
  /** Above and below, and on both sides. */
  readonly padding: [number, number];
  readonly #dilation: number[];
  readonly #groups: number;

  constructor(inChannels: number, outChannels: number, kernelSize: number | [number, number], options: Conv2dOptions = {}) {
    super();
    const { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true, channelsLast = false } = options;
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new RangeError(`Conv2d: ${inChannels} input and ${outChannels} output channels must both be divisible by groups = ${groups}.`);
    }
    const kernel = typeof kernelSize === "number" ? [kernelSize, kernelSize] : kernelSize;
    const memoryFormat = channelsLast ? "channels_last" : "contiguous_format";
    this.weight = this.parameter("weight", torch.empty([outChannels, inChannels / groups, ...kernel], { memoryFormat }));
    this.bias = bias ? this.parameter("bias", torch.empty([outChannels])) : null;
    this.stride = [stride, stride];
    this.padding = [padding, padding];
    this.#dilation = [dilation, dilation];
    this.#groups = groups;
    defaultLinearInit_(this.weight, this.bias);
  }

  forward(x: Tensor): Tensor {
    return torch.conv2d(x, this.weight, this.bias, this.stride, this.padding, this.#dilation, this.#groups);
  }
}
