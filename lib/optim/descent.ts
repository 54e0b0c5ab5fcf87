import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** SGD's fused kernel without what makes it more than `p -= lr * (g + weightDecay * p)`. */
const plain = { momentum: 0, dampening: 0, nesterov: false, isFirstStep: false };

/**
 * `p -= rate * d` for each parameter and its direction, in one launch that reads the rate from the device's memory and rounds once.
 *
 * @param directions laid out as their parameters
 * @param rate [] float32
 */
export function descend(params: readonly Tensor[], directions: readonly Tensor[], rate: Tensor): void {
  torch.noGrad(() => torch._fusedSgd_(params, directions, [], { ...plain, lr: rate, weightDecay: 0, maximize: false }));
}

/**
 * `p += share * (t - p)` for each parameter and its target, in one launch that reads the share from the device's memory: gradient descent on half
 * the squared distance. A parameter that equals its target stays equal to the bit, as under `lerp`, which takes its weight only from the host or
 * with a launch for each tensor.
 *
 * @param targets laid out as their parameters; they are only read, though the operator's schema says otherwise
 * @param share [] float32
 */
export function approach(params: readonly Tensor[], targets: readonly Tensor[], share: Tensor): void {
  // The direction is p - t: the target as a gradient to go up, and the parameter as its own decay.
  torch.noGrad(() => torch._fusedSgd_(params, targets, [], { ...plain, lr: share, weightDecay: 1, maximize: true }));
}
