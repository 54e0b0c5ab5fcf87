import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import { featureKey, FeatureMatrix, type FeatureMatrixOptions, type LabelledRows } from "../../lib/train/linearProbe/featureMatrix.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("features");
let made = 0;

/** Rows 0, 1, 2 ... of three numbers each, in batches of two. */
const batches = (count: number) => async function* (): AsyncGenerator<LabelledRows> {
  made++;
  for (let row = 0; row < count; row += 2) {
    const size = Math.min(2, count - row);
    const values = Array.from({ length: 3 * size }, (_, i) => 3 * row + i);
    yield { features: torch.keep(torch.tensor(values, [size, 3])), labels: Array.from({ length: size }, (_, i) => (row + i) % 4) };
  }
};
const inMemory: FeatureMatrixOptions = { rows: 5, dim: 3, device: "cpu", memory: 1000, file: null, key: null };
const inFile = (name: string, key = "a"): FeatureMatrixOptions => ({ ...inMemory, memory: 0, file: join(folder, "deep", name), key: () => key });

const valuesOf = ({ features, labels }: FeatureMatrix): unknown => ({ features: features.toArray(), labels: [...labels] });

describe.each<[string, (name: string) => FeatureMatrixOptions]>([["memory", () => inMemory], ["a file", inFile]])("features in %s", (_, options) => {
  test("are what came, and rows of them are what was asked for", async () => {
    using matrix = await FeatureMatrix.collect(batches(5), options("whole.safetensors"));
    expect(valuesOf(matrix)).toEqual({ features: [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14]], labels: [0, 1, 2, 3, 0] });
    using rows = matrix.rows([4, 0, 4], "cpu");
    expect(rows.toArray()).toEqual([[12, 13, 14], [0, 1, 2], [12, 13, 14]]);
  });

  test("are fewer where images were left out, and never more than was said", async () => {
    using fewer = await FeatureMatrix.collect(batches(3), options("fewer.safetensors"));
    expect(valuesOf(fewer)).toEqual({ features: [[0, 1, 2], [3, 4, 5], [6, 7, 8]], labels: [0, 1, 2] });
    using cut = await FeatureMatrix.collect(batches(8), options("cut.safetensors"));
    expect(cut.labels).toEqual([0, 1, 2, 3, 0]);
  });

  test("of an error, nothing is left", async () => {
    const failing = async function* (): AsyncGenerator<LabelledRows> {
      yield* batches(2)();
      throw new Error("torn");
    };
    await expect(FeatureMatrix.collect(failing, options("torn.safetensors"))).rejects.toThrow("torn");
  });
});

test("the file is safetensors, for other programs too", async () => {
  const options = inFile("other.safetensors");
  using matrix = await FeatureMatrix.collect(batches(4), options);
  expect([matrix.file, matrix.length]).toEqual([options.file, 4]);
  const read = await readCheckpoint<Map<string, torch.Tensor>>(options.file!);
  const named = new Map(read instanceof Map ? read : Object.entries(read as Record<string, torch.Tensor>));
  expect(named.get("features")!.toArray()).toEqual([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [0, 0, 0]]);
  expect(Array.from(named.get("labels")!.data() as BigInt64Array, Number)).toEqual([0, 1, 2, 3, -1]);
  disposeTensors(read);
});

test("the file is used again for the same key only, and not where it is damaged", async () => {
  const collect = async (key: string): Promise<number> => {
    const before = made;
    using matrix = await FeatureMatrix.collect(batches(5), inFile("again.safetensors", key));
    expect(matrix.labels).toEqual([0, 1, 2, 3, 0]);
    return made - before;
  };
  const path = inFile("again.safetensors").file!;
  expect([await collect("a"), await collect("a"), await collect("b"), await collect("b"), await collect("a")]).toEqual([1, 0, 1, 0, 1]);
  const size = statSync(path).size;
  writeFileSync(path, readFileSync(path).subarray(0, size - 8));
  expect([await collect("a"), statSync(path).size]).toEqual([1, size]);
});

test("the key tells options, names and weights apart", () => {
  using one = torch.ones([2]);
  using two = torch.zeros([2]);
  const keys = [
    featureKey({ size: 1 }, ["a", "b"], new Map([["w", one]])), featureKey({ size: 2 }, ["a", "b"], new Map([["w", one]])),
    featureKey({ size: 1 }, ["a", "c"], new Map([["w", one]])), featureKey({ size: 1 }, ["ab"], new Map([["w", one]])),
    featureKey({ size: 1 }, ["a", "b"], new Map([["w", two]])),
  ];
  expect(new Set(keys).size).toBe(5);
  expect(featureKey({ size: 1 }, ["a", "b"], new Map([["w", one]]))).toBe(keys[0]);
});
