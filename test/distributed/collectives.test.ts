import { describe, expect, test } from "@jest/globals";
import type { DType } from "../../lib/torch/index.js";
import { runRanks, valuesOfRanks } from "../support/rankProcesses.js";

const tasks = new URL("./collectiveTasks.js", import.meta.url).href;
const reducible: DType[] = ["float16", "bfloat16", "float32", "float64", "uint8", "int8", "int32", "int64"];
const any: DType[] = [...reducible, "int16", "bool", "complex64", "uint16"];

describe("collectives", () => {
  test("allReduce_ gives the sum, mean, largest and smallest of three ranks, in every type that Gloo reduces", async () => {
    const cases = reducible.flatMap((dtype) => (["sum", "max", "min", "mean"] as const)
      .filter((op) => op !== "mean" || dtype.includes("float")).map((op) => ({ dtype, op })));
    const expected = { sum: [6, 12], mean: [2, 4], max: [3, 6], min: [1, 2] };
    for (const values of await valuesOfRanks(3, tasks, "reduceAll", cases)) {
      expect(values).toEqual(cases.map(({ op }) => expected[op]));
    }
  });

  test("allGather joins tensors of any type by rank", async () => {
    const dtypes = any.filter((dtype) => dtype !== "complex64");
    for (const values of await valuesOfRanks(3, tasks, "gatherAll", dtypes)) {
      expect(values).toEqual(dtypes.map((dtype) => [[0, 1], [1, 1], [dtype === "bool" ? 1 : 2, 1]]));
    }
  });

  test("broadcast_ copies tensors of any type from one rank", async () => {
    const dtypes = any.filter((dtype) => dtype !== "complex64");
    for (const values of await valuesOfRanks(3, tasks, "broadcastAll", dtypes)) {
      expect(values).toEqual(dtypes.map((dtype) => (dtype === "bool" ? [1, 1] : [2, 3])));
    }
  });

  test("tensors that are not contiguous, have no dimensions or no elements are carried as well", async () => {
    for (const value of await valuesOfRanks(2, tasks, "layouts")) {
      expect(value).toEqual({
        transposed: [[1, 7], [3, 9], [5, 11]], everySecond: [3, 3, 3], rows: [2, 2, 2, 4], lastRow: Array.from({ length: 16 }, (_, i) => i),
        column: [1, 1], scalar: [0, 1], empty: [0, 4],
      });
    }
  });

  test("exchange gives every rank the values of all", async () => {
    const all = [0, 1, 2].map((rank) => ({ rank, text: "é".repeat(rank * 100), nested: [null, true] }));
    for (const value of await valuesOfRanks(3, tasks, "exchangeValues")) expect(value).toEqual(all);
  });

  test("the store is shared by all ranks", async () => {
    const values = await valuesOfRanks<{ other: string; sum: number; deleted: boolean[] | null; none: null }>(2, tasks, "storeWork");
    expect(values).toEqual([
      { other: "value 1", sum: 3, deleted: [true, false], none: null }, { other: "value 0", sum: 3, deleted: null, none: null },
    ]);
  });

  test("a closed group says so, closing twice is fine, and collectives leave no tensor behind", async () => {
    expect(await valuesOfRanks(2, tasks, "leaks")).toEqual([0, 0]);
    for (const { value } of await runRanks<string>(2, tasks, "afterClose")) expect(value).toMatch(/process group is closed/);
  });
});
