import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

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
  return torch.noGrad(() =>
    torch.scope(() => {
      const present = params.flatMap((param, index) => (param.grad === null ? [] : [{ index, gradient: param.grad }]));
      if (present.length === 0) return { norm: 0, nonFinite: [] };
      const norms = torch._foreachNorm(
        present.map(({ gradient }) => gradient),
        2,
      );
      const norm = Number(torch.linalgVectorNorm(torch.stack(norms)).item());
      if (Number.isFinite(norm)) return { norm, nonFinite: [] };
      const bad = present.filter(({ gradient }) => !torch.scope(() => gradient.isfinite().all()).item());
      return { norm, nonFinite: bad.map(({ index }) => index) };
    }),
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
