import { native } from "../native.js";
import { BatchNorm, type AnyModule, type BatchNormState, type BatchNormSynchronizer } from "../nn/index.js";
import { Tensor } from "../torch/index.js";
import type { ProcessGroup } from "./processGroup.js";

/**
 * Lets every batch normalisation inside `module` use, in training, the statistics of the batches of all ranks together, forward and backward,
 * as `torch.nn.SyncBatchNorm` does. Ranks may have batches of different sizes. Evaluation stays as it is.
 *
 * All ranks must call the same layers in the same order. Gradients of weight and bias are of this rank's part, to be averaged as all others.
 */
export function synchronizeBatchNorm(module: AnyModule, group: ProcessGroup): void {
  const synchronizer = group.size === 1 ? null : new GroupSynchronizer(group);
  for (const [, each] of module.namedModules()) if (each instanceof BatchNorm) each.synchronizer = synchronizer;
}

class GroupSynchronizer implements BatchNormSynchronizer {
  constructor(private readonly group: ProcessGroup) {}

  normalize(x: Tensor, { weight, bias, runningMean, runningVar, momentum, eps }: BatchNormState): Tensor {
    const slot = (tensor: Tensor | null): number => (tensor === null ? -1 : tensor.liveSlot("syncBatchNorm"));
    return new Tensor(
      native.syncBatchNorm(this.group.handle(), slot(x), slot(weight), slot(bias), slot(runningMean), slot(runningVar), momentum, eps),
    );
  }
}
