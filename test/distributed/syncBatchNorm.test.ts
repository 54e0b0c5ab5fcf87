import { describe, expect, test } from "@jest/globals";
import type { NestedArray } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import * as torch from "../../lib/torch/index.js";
import { runRanks, valuesOfRanks } from "../support/rankProcesses.js";
import { normalizeWhole, type NormCase, type NormResult } from "./trainingTasks.js";

const tasks = new URL("./trainingTasks.js", import.meta.url).href;

const flat = (value: NestedArray | null): number[] => [value].flat(9) as number[];

/** Largest difference, relative to the largest expected value. */
function difference(actual: NestedArray | null, expected: NestedArray | null): number {
  const [a, e] = [flat(actual), flat(expected)];
  if (a.length !== e.length) return Infinity;
  const scale = Math.max(...e.map(Math.abs), 1e-300);
  return Math.max(0, ...a.map((value, i) => Math.abs(value - e[i]!))) / scale;
}

const sum = (parts: (NestedArray | null)[]): number[] => parts.map(flat).reduce((total, part) => total.map((value, i) => value + part[i]!));

function compare(parts: NormResult[], whole: NormResult, tolerance: number): void {
  expect(difference(parts.flatMap((part) => part.output as NestedArray[]), whole.output)).toBeLessThan(tolerance);
  if (whole.forX !== null) {
    expect(difference(parts.flatMap((part) => part.forX as NestedArray[]), whole.forX)).toBeLessThan(tolerance);
    if (whole.forWeight !== null) {
      expect(difference(sum(parts.map((part) => part.forWeight)), whole.forWeight)).toBeLessThan(tolerance);
      expect(difference(sum(parts.map((part) => part.forBias)), whole.forBias)).toBeLessThan(tolerance);
    }
  }
  for (const part of parts) {
    expect(difference(part.mean, whole.mean)).toBeLessThan(tolerance);
    expect(difference(part.variance, whole.variance)).toBeLessThan(tolerance);
    expect(part.tracked).toBe(whole.tracked);
    expect(part.dtype).toBe(whole.dtype);
  }
}

const base: NormCase = { rows: [4, 4], rest: [5], affine: true, dtype: "float64" };
const cases = (rows: number[]): [string, NormCase, number][] => [
  ["float64", { ...base, rows }, 1e-12],
  ["float64, not affine", { ...base, rows, affine: false }, 1e-12],
  ["float64, images", { ...base, rows, rest: [3, 4, 5] }, 1e-12],
  ["float64, images in channels_last", { ...base, rows, rest: [3, 4, 5], channelsLast: true }, 1e-12],
  ["float64, sequences", { ...base, rows, rest: [3, 7] }, 1e-12],
  ["float64, without a graph", { ...base, rows, noGrad: true }, 1e-12],
  ["float32", { ...base, rows, dtype: "float32" }, 1e-5],
  ["float32, a mean 1,000 times the spread", { ...base, rows, dtype: "float32", offset: 1000 }, 2e-3],
  ["bfloat16 with float32 weights, as under autocast", { ...base, rows, dtype: "bfloat16", rest: [3, 4, 5] }, 1.5e-2],
];

describe("synchronizeBatchNorm", () => {
  expectNoTensorsLeft();

  test.each([[[4, 4]], [[3, 5]], [[2, 4, 3]], [[1, 1, 1]]])("ranks with %j rows get what one process gets for all", async (rows) => {
    const all = cases(rows);
    const parts = await valuesOfRanks<NormResult[]>(rows.length, tasks, "normalizeParts", all.map(([, each]) => each));
    all.forEach(([name, each, tolerance], i) => {
      try {
        compare(parts.map((rank) => rank[i]!), torch.scope(() => normalizeWhole(each)), tolerance);
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}`, { cause: error });
      }
    });
  });

  test("one value per channel on each rank is a batch; one in all is not", async () => {
    expect(await valuesOfRanks(2, tasks, "singleValues")).toEqual([[1, 3], [1, 3]]);
    for (const { error } of await runRanks(2, tasks, "oneValueInAll")) expect(error!.message).toMatch(/several values per channel, and the batches of all ranks have 1/);
  });

  test("evaluation stays as it is, and a second derivative is refused", async () => {
    for (const value of await valuesOfRanks(2, tasks, "evaluationAndSecondDerivative")) {
      expect(value).toEqual({ same: true, refusal: expect.stringContaining("has no second derivative") });
    }
  });
});
