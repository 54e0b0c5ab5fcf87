/**
 * Initialisers: each fills a tensor in place from torch's default generator (`torch.manualSeed`) without recording gradients, and returns
 * it. Formulas and defaults are PyTorch's `torch.nn.init`.
 *
 * @module
 */

import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** Fills from the uniform law on [low, high). */
export function uniform_(tensor: Tensor, low = 0, high = 1): Tensor {
  return torch.noGrad(() => tensor.uniform_(low, high));
}

/** Fills from the normal law. */
export function normal_(tensor: Tensor, mean = 0, std = 1): Tensor {
  return torch.noGrad(() => tensor.normal_(mean, std));
}

/**
 * Fills from the normal law cut off at `low` and `high`, as PyTorch's `trunc_normal_`: the inverse of the law's distribution function at
 * uniform values. With the usual std of 0.02 the default limits cut nothing off.
 */
export function truncNormal_(tensor: Tensor, mean = 0, std = 1, low = -2, high = 2): Tensor {
  return torch.noGrad(() =>
    torch.scope(() => {
      const limits = torch.tensor([(low - mean) / std, (high - mean) / std], [2], { dtype: "float64" });
      const [least, most] = limits.div(Math.SQRT2).erf().toArray() as [number, number];
      tensor.uniform_(least, most);
      torch.erfinv_(tensor);
      return tensor.mul_(std * Math.SQRT2).add_(mean).clamp_({ min: low, max: high });
    }),
  );
}

export function constant_(tensor: Tensor, value: number): Tensor {
  return torch.noGrad(() => tensor.fill_(value));
}

export function zeros_(tensor: Tensor): Tensor {
  return constant_(tensor, 0);
}

export function ones_(tensor: Tensor): Tensor {
  return constant_(tensor, 1);
}

/** Uniform on ±√(6 / (fan in + fan out)) (Glorot and Bengio, 2010). */
export function xavierUniform_(tensor: Tensor): Tensor {
  const { fanIn, fanOut } = fans(tensor);
  const bound = Math.sqrt(6 / (fanIn + fanOut));
  return uniform_(tensor, -bound, bound);
}

export interface KaimingOptions {
  /** Preserve the variance of the forward pass (`"fanIn"`, the default) or of the gradients (`"fanOut"`). */
  mode?: "fanIn" | "fanOut";
  /** Negative slope of the leaky ReLU that follows; 0 is a plain ReLU. */
  negativeSlope?: number;
}

/** Uniform on ±√(6 / ((1 + slope²) · fan)) (He et al., 2015). */
export function kaimingUniform_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd(tensor, options);
  return uniform_(tensor, -bound, bound);
}

/** Normal of standard deviation √(2 / ((1 + slope²) · fan)) (He et al., 2015). */
export function kaimingNormal_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  return normal_(tensor, 0, kaimingStd(tensor, options));
}

function kaimingStd(tensor: Tensor, { mode = "fanIn", negativeSlope = 0 }: KaimingOptions): number {
  return Math.sqrt(2 / ((1 + negativeSlope ** 2) * fans(tensor)[mode]));
}

/** Number of inputs and outputs that one weight connects: weight shapes are [out, in, ...kernel]. */
export function fans(tensor: Tensor): { fanIn: number; fanOut: number } {
  const shape = tensor.shape;
  if (shape.length < 2) {
    throw new RangeError(
      `A tensor of shape [${shape}] has no fan in and fan out: give one of at least 2 dimensions, or use uniform_ or normal_.`,
    );
  }
  const receptiveField = shape.slice(2).reduce((product, size) => product * size, 1);
  return { fanIn: shape[1] * receptiveField, fanOut: shape[0] * receptiveField };
}

/**
 * PyTorch's default for `Linear` and `Conv2d`: weight and bias uniform on ±1/√(fan in). It is kaiming uniform with slope √5, for
 * historical reasons.
 */
export function defaultLinearInit_(weight: Tensor, bias: Tensor | null): void {
  kaimingUniform_(weight, { negativeSlope: Math.sqrt(5) });
  if (bias === null) return;
  const bound = 1 / Math.sqrt(fans(weight).fanIn);
  uniform_(bias, -bound, bound);
}
