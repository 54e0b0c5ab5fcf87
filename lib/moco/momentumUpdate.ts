import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/**
 * Moves each momentum parameter k towards its base parameter b in place: `k = momentum * k + (1 - momentum) * b`, as one multi-tensor call.
 *
 * Computed as `k + (1 - momentum) * (b - k)`: it needs no temporary, and a parameter that equals its base (the fixed position embedding, a
 * frozen patch projection) stays equal bit for bit, where the textbook form drifts by a rounding each step.
 */
export function updateMomentumParameters(momentumParameters: readonly Tensor[], baseParameters: readonly Tensor[], momentum: number): void {
  if (momentum === 1) return; // they stay where they are
  torch.noGrad(() => torch._foreachLerp_(momentumParameters, baseParameters, 1 - momentum));
}
