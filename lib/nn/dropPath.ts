import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/**
 * Stochastic depth (Huang et al., 2016; "drop path" in timm and DeiT): each sample of a residual branch is zeroed with probability `rate`,
 * and what is kept is divided by 1 - rate, so that the branch's expectation stays. One draw for each sample, from the default generator of
 * the branch's device (`torch.manualSeed`), as timm draws.
 *
 * @param branch `[N, ...]`
 * @param rate from 0 to below 1
 * @example const y = x.add(dropPath(branch, 0.1))
 */
export function dropPath(branch: Tensor, rate: number): Tensor {
  const kept = 1 - rate;
  const shape = [branch.shape[0] as number, ...branch.shape.slice(1).map(() => 1)];
  return torch.scope(() => branch.mul(torch.noGrad(() => branch.newEmpty(shape).bernoulli_(kept).div_(kept))));
}
