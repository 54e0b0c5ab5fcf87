import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { ModelConfigError, requireInteger } from "./errors.js";

/**
 * The fixed sine-cosine position embedding of MoCo v3's ViT, `[1, 1 + gridHeight * gridWidth, embedDim]`, float32. Row 0, the class
 * token's, is zero.
 *
 * Token n stands for a = ⌊n / gridHeight⌋ and b = n mod gridHeight; its row is sin aω | cos aω | sin bω | cos bω, with
 * ω_k = temperature^(−k / (embedDim / 4)). On a square grid a is the patch's row and b its column. On other grids the patches, which run
 * row by row over gridWidth columns, get scrambled places: upstream does so, and weights trained with it need the same.
 *
 * @throws ModelConfigError when embedDim is not divisible by 4.
 * @example positionEmbedding2d(14, 14, 384).shape // [1, 197, 384]
 */
export function positionEmbedding2d(gridHeight: number, gridWidth: number, embedDim: number, temperature = 10000): Tensor {
  requireInteger("gridHeight", gridHeight);
  requireInteger("gridWidth", gridWidth);
  requireFourBlocks(embedDim);
  // Float32 throughout, operation by operation as upstream, so that the values are the same bits.
  return torch.noGrad(() =>
    torch.scope(() => {
      const quarter = embedDim / 4;
      const places = gridHeight * gridWidth;
      const omega = torch.reciprocal(torch.pow(temperature, torch.arange(quarter, { dtype: "float32" }).div(quarter))); // [quarter]
      const a = torch.tensor(Float32Array.from({ length: places }, (_, n) => Math.floor(n / gridHeight)), [places, 1]);
      const b = torch.tensor(Float32Array.from({ length: places }, (_, n) => n % gridHeight), [places, 1]);
      const [angleA, angleB] = [a.mul(omega), b.mul(omega)]; // [places, quarter]
      const patches = torch.cat([angleA.sin(), angleA.cos(), angleB.sin(), angleB.cos()], 1); // [places, embedDim]
      return torch.cat([torch.zeros([1, embedDim]), patches]).unsqueeze(0);
    }),
  );
}

/** Checks that the embedding's four blocks fit a width. */
export function requireFourBlocks(embedDim: number): void {
  if (Number.isInteger(embedDim) && embedDim > 0 && embedDim % 4 === 0) return;
  const nearest = Math.max(4, Math.ceil(embedDim / 4) * 4 || 4);
  throw new ModelConfigError(
    `embedDim is ${embedDim}: the 2-D position embedding has four blocks, so it must be a positive multiple of 4, such as ${nearest}.`,
  );
}
