import { approach } from "../optim/descent.js";
import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";

/**
 * Moves each momentum parameter k towards its base parameter b in place: `k = momentum * k + (1 - momentum) * b`, as one multi-tensor call.
 *
 * Computed as `k + (1 - momentum) * (b - k)`: it needs no temporary, and a parameter that equals its base (the fixed position embedding, a
 * frozen patch projection) stays equal bit for bit, where the textbook form drifts by a rounding each step.
 *
 * @param momentum a number, or `1 - momentum` as a tensor [] of float32 on the parameters' device, as a recorded step has it
 */
export function updateMomentumParameters(momentumParameters: readonly Tensor[], baseParameters: readonly Tensor[], momentum: number | Tensor): void {
  if (momentum instanceof Tensor) approach(momentumParameters, baseParameters, momentum);
  else torch.noGrad(() => torch._foreachLerp_(momentumParameters, baseParameters, 1 - momentum));
}
