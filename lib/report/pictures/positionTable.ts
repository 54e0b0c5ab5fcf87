import { positionEmbedding2d } from "../../models/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** A ViT's positions as numbers, the class token's first. */
export interface PositionTable {
  /** Rows and columns of patches. */
  grid: readonly [number, number];
  width: number;
  /** `[1 + rows · columns, width]`, row by row. */
  values: Float32Array;
  /** Of the sine-cosine embedding; null for positions that were learned, or interpolated. */
  temperature: number | null;
}

/**
 * The fixed sine-cosine positions of a grid.
 *
 * @throws ModelConfigError as `positionEmbedding2d`
 */
export function sineCosineTable(grid: readonly [number, number], width: number, temperature = 10000): PositionTable {
  using embedding = positionEmbedding2d(grid[0], grid[1], width, temperature);
  return { grid, width, values: embedding.data() as Float32Array, temperature };
}

/** The positions `[1, 1 + rows · columns, width]` that a network has. */
export function tableOf(positions: Tensor, grid: readonly [number, number]): PositionTable {
  const values = torch.scope(() => positions.detach().to("cpu").to("float32").contiguous().data() as Float32Array);
  const width = positions.size(2);
  const fixed = width % 4 === 0 ? sineCosineTable(grid, width) : null;
  const isFixed = fixed !== null && values.every((value, i) => Math.abs(value - fixed.values[i]!) < 1e-3);
  return { grid, width, values, temperature: isFixed ? fixed.temperature : null };
}

/** Cosines of every patch's position with every other's, `[patches, patches]`, row by row; the class token's is not among them. */
export function positionSimilarities({ grid, width, values }: PositionTable): Float64Array {
  const patches = grid[0] * grid[1];
  const rows = Array.from({ length: patches }, (_, n) => {
    const row = Float64Array.from(values.subarray((1 + n) * width, (2 + n) * width));
    const length = Math.hypot(...row);
    return length > 0 ? row.map((value) => value / length) : row;
  });
  const result = new Float64Array(patches * patches);
  for (let a = 0; a < patches; a++) {
    for (let b = a; b < patches; b++) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += rows[a]![i]! * rows[b]![i]!;
      result[a * patches + b] = result[b * patches + a] = sum;
    }
  }
  return result;
}
