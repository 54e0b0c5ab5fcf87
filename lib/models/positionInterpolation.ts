import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { ModelConfigError, type ImageSize } from "./errors.js";

/**
 * A ViT's position embedding for another grid of patches: the patches' rows are resized as a picture of `D` channels, bicubically (cubic
 * coefficient -0.75, pixel centres aligned at half pixels, no smoothing), and the class token's row stays. So do DeiT and, with
 * `antialias=False`, timm.
 *
 * MoCo v3's fixed sine-cosine table is interpolated like a learned one, not computed anew: fine-tuning goes on as DeiT's does, which trains
 * it, and a table of the new grid would count places that the weights have not seen.
 *
 * @param positions `[1, 1 + rows · columns, D]`
 * @param from rows and columns of patches that the positions are for
 * @returns a new tensor `[1, 1 + to[0] · to[1], D]` of the same dtype, for a new size
 * @throws ModelConfigError where the positions are not for the grid `from`
 * @example interpolatePositions(vit.posEmbed, [14, 14], [24, 24]) // 224 px to 384 px: [1, 577, D]
 */
export function interpolatePositions(positions: Tensor, from: ImageSize, to: ImageSize): Tensor {
  const [rows, columns] = from;
  const [, tokens, width] = positions.shape as [number, number, number];
  if (tokens !== 1 + rows * columns) {
    throw new ModelConfigError(`there are ${tokens - 1} positions, which do not fill a grid of ${rows}x${columns} patches: give their grid.`);
  }
  return torch.noGrad(() =>
    torch.scope(() => {
      const classToken = positions.narrow(1, 0, 1); // [1, 1, D]
      const picture = positions.narrow(1, 1, tokens - 1).reshape([1, rows, columns, width]).permute([0, 3, 1, 2]); // [1, D, rows, columns]
      const precise = picture.dtype === "float64" ? picture : picture.to("float32"); // half precision has no bicubic kernel on every device
      const resized = torch.upsampleBicubic2d(precise, [...to], false); // [1, D, rows', columns']
      const patches = resized.permute([0, 2, 3, 1]).reshape([1, to[0] * to[1], width]).to(positions.dtype);
      return torch.cat([classToken, patches], 1);
    }),
  );
}
