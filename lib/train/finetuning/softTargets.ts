import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

export interface SoftTargetOptions {
  /** Classes, so the targets' length. */
  numClasses: number;
  /** Share of a target that is spread evenly over all classes (Szegedy et al., 2016). Default 0. */
  smoothing?: number;
  /** Share of an image's own class; the rest is that of its partner, the batch in reverse order. Default 1: not mixed. */
  lambda?: number;
}

/**
 * Targets of a batch as probabilities of the classes, smoothed and mixed as timm's `Mixup` does.
 *
 * @param labels int64 [N]
 * @returns float32 [N, numClasses] on the labels' device
 */
export function softTargets(labels: Tensor, { numClasses, smoothing = 0, lambda = 1 }: SoftTargetOptions): Tensor {
  return torch.noGrad(() =>
    torch.scope(() => {
      const off = smoothing / numClasses;
      const targets = torch.full([labels.size(0), numClasses], off, { dtype: "float32", device: labels.device });
      targets.scatter_(1, labels.unsqueeze(1), 1 - smoothing + off);
      return lambda === 1 ? targets : targets.mul(lambda).add_(targets.flip([0]).mul_(1 - lambda));
    }),
  );
}

/**
 * Mean over a batch of the cross entropy between targets and a classifier's outputs, in float32 or better.
 *
 * @param logits [N, C] of any floating dtype
 * @param targets [N, C] probabilities
 */
export function softTargetCrossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return torch.scope(() => {
    const outputs = logits.dtype === "float64" ? logits : logits.to("float32");
    return outputs.logSoftmax(-1).mul(targets).sum([-1]).mean().neg();
  });
}
