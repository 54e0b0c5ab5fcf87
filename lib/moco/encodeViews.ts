import { VisionTransformer, type Encoder } from "../models/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** Two augmented views of the same images, each `[N, 3, H, W]`. */
export type Views = readonly [Tensor, Tensor];

/** Patch tokens `[2N, patches, D]` of both views, the first view's images first. */
export function embedViews(encoder: VisionTransformer, views: Views): Tensor {
  return torch.scope(() => torch.cat(views.map((view) => encoder.embedPatches(view))));
}

/**
 * Backbone features `[2N, D]` of both views, the first view's images first.
 *
 * A transformer treats each image by itself, so both views pass through as one batch. A ResNet's BatchNorm takes its statistics from one view
 * at a time, so there the views go one after the other; so they do through a ViT's stem, where that has BatchNorm.
 *
 * @param patchTokens result of {@link embedViews}, where the caller has it already
 */
export function encodeViews(encoder: Encoder, views: Views, patchTokens?: Tensor): Tensor {
  return torch.scope(() => {
    if (encoder instanceof VisionTransformer) return encoder.forwardClassToken(patchTokens ?? embedViews(encoder, views));
    return torch.cat(views.map((view) => encoder.forwardFeatures(view)));
  });
}
