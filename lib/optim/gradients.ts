import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** What was found in the gradients of a step. */
export interface GradientCheck {
  /** Euclidean norm over all gradients, accumulated in their own dtype; 0 where there are none. */
  norm: number;
  /** Indices into the given list of parameters whose gradient holds a NaN or an infinity. */
  nonFinite: number[];
}

/**
 * Looks at all gradients in one fused pass, for a trainer to stop before an optimiser touches a weight.
 *
 * A finite norm proves every element finite, so the second, exact pass runs only where it is not (a norm can also overflow float32 with
 * finite gradients above 1e19). Costs one read of the gradients and, on a GPU, one synchronisation.
 *
 * @param params parameters; those without a gradient are passed over
 */
export function checkGradients(params: readonly Tensor[]): GradientCheck {
  return torch.scope(() => {
    const norm = gradientNorm(params).item();
    return { norm, nonFinite: Number.isFinite(norm) ? [] : nonFiniteGradients(params) };
  });
}

/** Euclidean norm over all gradients, on their device: nothing waits for it. A zero on the CPU where there are none. */
export function gradientNorm(params: readonly Tensor[]): Tensor {
  return totalNorm(params.flatMap(({ grad }) => (grad === null ? [] : [grad])));
}

/** Euclidean norm over all elements of all tensors, of no dimensions and on their device. Infinite from 1.8e19 on, where float32's squares overflow. */
export function totalNorm(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 0) return torch.zeros([]);
  return torch.noGrad(() => torch.scope(() => torch.linalgVectorNorm(tensorNorms(tensors))));
}

/** Euclidean norm of each tensor, `[tensors]`, on their device; at least one is given. */
export function tensorNorms(tensors: readonly Tensor[]): Tensor {
  return torch.noGrad(() => torch.scope(() => torch.stack(torch._foreachNorm(tensors, 2))));
}

/** Indices into `params` of those whose gradient holds a NaN or an infinity. Reads one value for each. */
export function nonFiniteGradients(params: readonly Tensor[]): number[] {
  return torch.noGrad(() =>
    params.flatMap(({ grad }, index) => (grad === null || torch.scope(() => grad.isfinite().all().item()) ? [] : [index])),
  );
}

/**
 * Shrinks all gradients by one factor where their norm is above `maxNorm`, as `torch.nn.utils.clip_grad_norm_` does, 1e-6
 * added to the norm included.
 *
 * @param norm their Euclidean norm, as `checkGradients` gives it; gradients of a norm that is not finite stay as they are
 */
export function clipGradients(params: readonly Tensor[], norm: number, maxNorm: number): void {
  const factor = maxNorm / (norm + 1e-6);
  if (!(factor < 1) || !Number.isFinite(norm)) return;
  const gradients = params.flatMap((param) => (param.grad === null ? [] : [param.grad]));
  torch.noGrad(() => torch.scope(() => void torch._foreachMul_(gradients, factor)));
}
