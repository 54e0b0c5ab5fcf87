import { VisionTransformer } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";

export const tinyTransformer = { imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, stopGradConv1: true };

/** A user's own encoder, which draws random numbers in each step. */
export class DroppingTransformer extends VisionTransformer {
  override forwardClassToken(patchTokens: Tensor): Tensor {
    return torch.scope(() => torch.dropout(super.forwardClassToken(patchTokens), 0.2, this.training));
  }
}
