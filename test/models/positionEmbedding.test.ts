/** The fixed position embedding against the reference, on square and other grids. */
import { describe, expect, test } from "@jest/globals";
import { ModelConfigError, positionEmbedding2d } from "../../lib/models/index.js";
import { maxAbsolute } from "../support/digest.js";
import { readJson, readNpy } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

interface Item {
  file: string;
  embed_dim: number;
  grid_h: number;
  grid_w: number;
}

expectNoTensorsLeft();

describe("positionEmbedding2d", () => {
  const { items, suggested_atol } = readJson<{ items: Item[]; suggested_atol: number }>("posembed/manifest.json");

  test.each(items)("$file", ({ file, embed_dim, grid_h, grid_w }) => {
    const golden = readNpy<Float32Array>(`posembed/${file}`);
    using embedding = positionEmbedding2d(grid_h, grid_w, embed_dim);
    expect(embedding.shape).toEqual(golden.shape);
    expect(embedding.dtype).toBe("float32");
    expect(maxAbsolute(embedding.data() as Float32Array, golden.data)).toBeLessThan(suggested_atol);
  });

  test("the class token's row is zero", () => {
    using embedding = positionEmbedding2d(2, 3, 8);
    expect([...(embedding.data() as Float32Array).slice(0, 8)]).toEqual(Array(8).fill(0));
  });

  test("temperature sets the slowest frequency", () => {
    using embedding = positionEmbedding2d(2, 2, 8, 100);
    // Token 2 has a = 1, b = 0; frequencies are 1 and 100^(-1/2).
    const row = (embedding.data() as Float32Array).slice(3 * 8, 4 * 8);
    [Math.sin(1), Math.sin(0.1), Math.cos(1), Math.cos(0.1), 0, 0, 1, 1].forEach((value, i) => expect(row[i]).toBeCloseTo(value, 6));
  });

  test.each([[2, 2, 6], [2, 2, 0], [0, 2, 8], [2, 1.5, 8]])("refuses grid %dx%d, width %d", (height, width, dim) => {
    expect(() => positionEmbedding2d(height, width, dim)).toThrow(ModelConfigError);
  });

  test("the error proposes a width", () => {
    expect(() => positionEmbedding2d(2, 2, 50)).toThrow(/embedDim is 50.*multiple of 4, such as 52/);
  });
});
