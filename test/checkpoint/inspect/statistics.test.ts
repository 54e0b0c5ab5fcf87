import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { forEachPiece } from "../../../lib/checkpoint/inspect/pieces.js";
import { countNotPositive, statisticsOf } from "../../../lib/checkpoint/inspect/statistics.js";
import * as torch from "../../../lib/torch/index.js";
import { dtypes, type DType } from "../../../lib/torch/index.js";

let tensorsBefore: number;
beforeAll(() => void (tensorsBefore = torch.memory().tensors));
afterAll(() => expect(torch.memory().tensors).toBe(tensorsBefore));

/** The definition, in plain JavaScript. */
function expected(values: readonly number[]): { mean: number; std: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, std: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) };
}

describe("statisticsOf", () => {
  test.each(Object.keys(dtypes).filter((dtype) => dtypes[dtype as DType].kind !== "complex") as DType[])("%s", (dtype) => {
    torch.scope(() => {
      const values = dtype === "bool" ? [1, 0, 1, 1] : [1, 0, 2, 4, 3];
      const tensor = torch.tensor(values).to(dtype);
      const { mean, std } = expected(values);
      const found = statisticsOf(tensor);
      expect(found.mean).toBeCloseTo(mean, 14);
      expect(found.std).toBeCloseTo(std, 14);
      expect([found.nan, found.infinite]).toEqual([0, 0]);
    });
  });

  test("a large mean costs no digits, and pieces are put together right", () => {
    torch.scope(() => {
      torch.manualSeed(1);
      const values = torch.randn([700, 2000], { dtype: "float64" }); // three pieces
      const far = values.add(1e6);
      const near = statisticsOf(values);
      const found = statisticsOf(far);
      expect(found.mean! - 1e6).toBeCloseTo(near.mean!, 8);
      expect(Math.abs(found.std! / near.std! - 1)).toBeLessThan(1e-9);
      expect(Math.abs(near.std! - values.std(false).item())).toBeLessThan(1e-12);
    });
  });

  test("views, transposed and expanded tensors, and parameters", () => {
    torch.scope(() => {
      const base = torch.arange(48, { dtype: "float32" }).reshape([6, 8]);
      expect(statisticsOf(base.t())).toEqual(statisticsOf(base));
      expect(statisticsOf(base.select(1, 3)).mean).toBe(23);
      expect(statisticsOf(torch.tensor([1, 3]).unsqueeze(0).expand([5, 2]))).toEqual({ mean: 2, std: 1, nan: 0, infinite: 0 });
      expect(statisticsOf(torch.tensor([1, 3]).requiresGrad_()).mean).toBe(2);
    });
  });

  test("one element, none, NaN, infinities, complex numbers", () => {
    torch.scope(() => {
      expect(statisticsOf(torch.tensor([7], []))).toEqual({ mean: 7, std: 0, nan: 0, infinite: 0 });
      expect(statisticsOf(torch.empty([0, 3]))).toEqual({ mean: NaN, std: NaN, nan: 0, infinite: 0 });
      expect(statisticsOf(torch.tensor([1, NaN, Infinity]))).toEqual({ mean: NaN, std: NaN, nan: 1, infinite: 1 });
      expect(statisticsOf(torch.tensor([1, -Infinity], [2], { dtype: "float16" }))).toEqual({ mean: -Infinity, std: NaN, nan: 0, infinite: 1 });
      const complex = torch.viewAsComplex(torch.tensor([1, 2, NaN, 4], [2, 2]));
      expect(statisticsOf(complex)).toEqual({ mean: null, std: null, nan: 1, infinite: 0 });
    });
  });

  test("counts what is not positive", () => {
    torch.scope(() => expect(countNotPositive(torch.tensor([1, 0, -1, 2]))).toBe(2));
  });
});

test("pieces cover each element once, whatever the shape, and are never larger than allowed", () => {
  torch.scope(() => {
    for (const shape of [[], [1], [10], [3, 7], [2, 50], [4, 3, 5], [1, 1, 100], [5, 0]]) {
      const count = shape.reduce((product, size) => product * size, 1);
      const tensor = torch.arange(count, { dtype: "float64" }).reshape(shape);
      const seen: number[] = [];
      forEachPiece([tensor, tensor], ([piece, other]) => {
        expect(piece!.numel()).toBeLessThanOrEqual(8);
        expect(torch.equal(piece!, other!)).toBe(true);
        seen.push(...(piece!.data() as Float64Array));
      }, 8);
      expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    }
  });
});
