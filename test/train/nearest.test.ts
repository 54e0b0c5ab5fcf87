import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { ApproximateIndex, IndexFileError, loadUsearch, MissingPackageError } from "../../lib/train/neighbours/approximateIndex.js";
import { duplicateGroups } from "../../lib/train/neighbours/duplicateGroups.js";
import { writeEmbeddings } from "../../lib/train/embeddings/embeddingFile.js";
import { NearestError, NearestImages, type DuplicateGroup, type NearestOptions } from "../../lib/train/neighbours/nearest.js";
import { OptionError } from "../../lib/train/options.js";
import { findSimilarPairs, SimilarPairs, TooManyPairsError, type ComparedRows } from "../../lib/train/neighbours/similarPairs.js";
import { normalized } from "../../lib/train/neighbours/similarity.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("nearest");

const generator = (seed: number): torch.Generator => new torch.Generator().manualSeed(seed);
const drawn = (rows: number, dim: number, seed: number): Tensor => torch.keep(torch.randn([rows, dim], { generator: generator(seed) }));

/** Half of the rows random, half in clusters of `size`, of any length. */
function clustered(rows: number, dim: number, { size = 50, spread = 0.7, seed = 0 } = {}): Tensor {
  return torch.keep(torch.scope(() => {
    const half = rows / 2;
    const random = torch.randn([half, dim], { generator: generator(seed) });
    const centres = torch.randn([half / size, dim], { generator: generator(seed + 1) }).repeat([size, 1]);
    const noise = torch.randn([half, dim], { generator: generator(seed + 2) }).mul(spread);
    const lengths = torch.rand([rows, 1], { generator: generator(seed + 3) }).add(0.5);
    return torch.cat([random, centres.add(noise)]).mul(lengths);
  }));
}

const namesOf = (count: number): string[] => Array.from({ length: count }, (_, i) => `${i}.jpg`);
const from = (features: Tensor, options: NearestOptions = {}): Promise<NearestImages> =>
  NearestImages.from({ names: namesOf(features.size(0)), features }, options);

const rowsOf = (features: Tensor): ComparedRows =>
  ({ count: features.size(0), device: "cpu", block: (first, size) => normalized(features.narrow(0, first, size)) });

/** Cosine similarities of all pairs, in float64. */
function cosines(features: Tensor): Float64Array[] {
  return torch.scope(() => {
    const unit = normalized(features).to("float64");
    const all = torch.mm(unit, unit.t()).data() as Float64Array;
    const rows = features.size(0);
    return Array.from({ length: rows }, (_, i) => all.subarray(i * rows, (i + 1) * rows));
  });
}

describe("exact search", () => {
  test("finds what plain loops find, by vectors, by rows, out of a file", async () => {
    const features = clustered(600, 20);
    const all = cosines(features);
    const expected = (row: number, own: boolean): number[] =>
      [...all[row]!.keys()].filter((i) => own || i !== row).sort((a, b) => all[row]![b]! - all[row]![a]!).slice(0, 7);
    const path = join(folder, "some.npy");
    await writeEmbeddings(path, { names: namesOf(600), features });
    const rows = [3, 599, 300];
    const vectors = rows.map((row) => torch.scope(() => features.select(0, row).mul(5).data() as Float32Array)); // lengths do not matter
    using images = await NearestImages.open(path);
    expect([images.length, images.dim, images.isApproximate]).toEqual([600, 20, false]);
    const found = await images.search(vectors, 7);
    expect(found.map((each) => each.map(({ index }) => index))).toEqual(rows.map((row) => expected(row, true)));
    expect(found[0]![0]).toMatchObject({ index: 3, name: "3.jpg" });
    expect(found[0]![0]!.similarity).toBeCloseTo(1, 6);
    found.forEach((each, q) => each.forEach(({ index, similarity }) => expect(similarity).toBeCloseTo(all[rows[q]!]![index]!, 6)));
    expect((await images.searchRows(rows, 7)).map((each) => each.map(({ index }) => index))).toEqual(rows.map((row) => expected(row, false)));
    const asTensor = torch.scope(() => torch.keep(torch.tensor(vectors[1]!, [1, 20])));
    const [alone] = await images.search(asTensor, 7);
    expect(alone!.map(({ index }) => index)).toEqual(found[1]!.map(({ index }) => index));
    asTensor.dispose();
    features.dispose();
  });

  test("what cannot be searched says why", async () => {
    using images = await from(drawn(5, 8, 1));
    await expect(images.search([new Float32Array(9)], 1)).rejects.toThrow(NearestError);
    await expect(images.search([new Float32Array(9)], 1)).rejects.toThrow(/query's features have 9 values, and those of the images 8.*same checkpoint and layer/);
    await expect(images.search([new Float32Array(8)], 6)).rejects.toThrow(/k is 6, and there are 5 images; choose k from 1 to 5/);
    await expect(images.searchRows([1], 5)).rejects.toThrow(OptionError);
    await expect(images.searchRows([1], 5)).rejects.toThrow(/there are 4 other images; choose k from 1 to 4/);
    await expect(images.duplicates({ threshold: 1.5 })).rejects.toThrow(/threshold is 1.5/);
    for (const value of [NaN, Infinity]) {
      const features = drawn(4, 8, 2);
      torch.scope(() => void torch.noGrad(() => features.select(0, 2).fill_(value)));
      await expect(from(features)).rejects.toThrow(/features of 2\.jpg are not finite/);
    }
    await expect(from(torch.keep(torch.empty([0, 8])))).rejects.toThrow(/there are no images/);
    await expect(from(drawn(4, 8, 2), { device: "cuda:99" })).rejects.toThrow(/cuda:99/);
    await expect(from(drawn(4, 8, 2), { index: "some.index" })).rejects.toThrow(/4 images are searched exactly/);
  });
});

/** Fails unless groups are what complete linkage promises, for similarities `all`. */
function expectComplete(groups: readonly DuplicateGroup[], all: readonly Float64Array[], threshold: number): void {
  const rows = groups.map(({ images }) => images.map(({ index }) => index));
  expect(new Set(rows.flat()).size).toBe(rows.flat().length);
  groups.forEach(({ images, similarity }, g) => {
    const own = rows[g]!;
    const inside = own.flatMap((a, i) => own.slice(i + 1).map((b) => all[a]![b]!));
    expect(Math.min(...inside)).toBeGreaterThan(threshold - 1e-5);
    expect(similarity).toBeCloseTo(Math.min(...inside), 4);
    images.forEach(({ index, similarity: toFirst }) => expect(toFirst).toBeCloseTo(all[own[0]!]![index]!, 4));
  });
  // Nothing that is left over, and no other group, could join.
  const free = [...all.keys()].filter((row) => !rows.flat().includes(row)).map((row) => [row]);
  const parts = [...rows, ...free];
  const couldBeOne = parts.filter((part, p) =>
    parts.slice(p + 1).some((other) => part.every((a) => other.every((b) => all[a]![b]! >= threshold + 1e-5))));
  expect(couldBeOne).toEqual([]);
}

describe("near-duplicates", () => {
  test("groups are complete: any two of a group are similar, and no two groups could be one", async () => {
    for (const threshold of [0.5, 0.7]) {
      const features = clustered(400, 20, { size: 5, spread: 0.5 });
      const all = cosines(features);
      using images = await from(features);
      const groups = await images.duplicates({ threshold, raw: true });
      expect(groups.length).toBeGreaterThan(20);
      expect(groups[0]!.images.length).toBeGreaterThanOrEqual(groups.at(-1)!.images.length);
      expectComplete(groups, all, threshold);
    }
  });

  test("what all have in common is taken away: the same groups, whatever it is", async () => {
    const groups = async (common: number, raw = false): Promise<number[][]> => {
      const features = torch.keep(torch.scope(() => {
        const own = normalized(torch.cat([torch.randn([40, 32], { generator: generator(11) })]));
        const near = own.narrow(0, 0, 10).add(torch.randn([10, 32], { generator: generator(12) }).mul(0.01));
        return torch.cat([own, near]).add(common);
      }));
      using images = await from(features);
      return (await images.duplicates({ raw })).map((group) => group.images.map(({ index }) => index));
    };
    const expected = Array.from({ length: 10 }, (_, i) => [i, 40 + i]);
    expect(await groups(0)).toEqual(expected);
    expect(await groups(3)).toEqual(expected);
    expect((await groups(3, true))[0]!.length).toBeGreaterThan(10); // as they are, all look alike
  });

  test("where all are copies, that is what is found", async () => {
    const features = torch.keep(torch.scope(() => torch.randn([1, 32], { generator: generator(13) }).repeat([5, 1])));
    using images = await from(features);
    expect((await images.duplicates()).map((group) => group.images.length)).toEqual([5]);
  });

  test("a chain is not one group", () => {
    const pairs = new SimilarPairs(6, 0.9);
    for (const [a, b] of [[0, 1], [1, 2], [2, 3], [3, 4]] as const) pairs.add(a, b, 0.95);
    expect(duplicateGroups(pairs.finish()).map(({ rows }) => rows)).toEqual([[0, 1], [2, 3]]);
  });

  test("several blocks; every pair is found once", async () => {
    const features = clustered(5000, 16, { size: 5, spread: 0.15 });
    const blocks: number[][] = [];
    const pairs = await findSimilarPairs(rowsOf(features), { threshold: 0.9, onBlocks: (...each) => void blocks.push(each) });
    const expected = torch.scope(() => {
      const unit = normalized(features);
      const similar = torch.mm(unit, unit.t()).ge(0.9).nonzero().toArray() as [number, number][];
      return similar.flatMap(([a, b]) => (b > a ? [`${a} ${b}`] : []));
    });
    const found = Array.from({ length: pairs.length }, (_, i) => `${pairs.first[i]} ${pairs.second[i]}`).sort();
    expect(found).toEqual(expected.sort());
    expect(found.length).toBeGreaterThan(2000);
    expect(blocks.at(-1)).toEqual([6, 6]);
    features.dispose();
  });

  test("a thousand copies are a thousand copies, not half a million pairs", async () => {
    const features = drawn(4000, 16, 3);
    torch.scope(() => {
      // Copies in both blocks, of other lengths, and one image that is only similar to them.
      const copied = torch.tensor(Array.from({ length: 1000 }, (_, i) => 4 * i + 1), undefined, { dtype: "int64" });
      const vector = features.select(0, 1);
      features.indexCopy_(0, copied, vector.unsqueeze(0).mul(torch.rand([1000, 1], { generator: generator(4) }).add(0.5)));
      features.select(0, 6).copy_(vector.mul(3).add(torch.randn([16], { generator: generator(5) }).mul(0.4)));
    });
    const pairs = await findSimilarPairs(rowsOf(features), { threshold: 0.95 });
    expect(pairs.copyOf.filter((row) => row === 1).length).toBe(999);
    expect(pairs.length).toBeLessThan(50);
    using images = await from(features);
    const [largest, ...others] = await images.duplicates({ threshold: 0.95, raw: true });
    expect(largest!.images.length).toBe(1001);
    expect(largest!.images.map(({ index }) => index)).toContain(6);
    expect(largest!.similarity).toBeLessThan(0.9999);
    expect(others.every(({ images: each }) => each.length < 5)).toBe(true);
  });

  test("a threshold that tells nothing is refused before memory runs out", () => {
    const pairs = new SimilarPairs(200, 0.5, 10_000);
    const addAll = (): void => {
      for (let a = 0; a < 200; a++) for (let b = a + 1; b < 200; b++) pairs.add(a, b, 0.6);
    };
    expect(addAll).toThrow(TooManyPairsError);
    expect(addAll).toThrow(/more than 10,000 pairs of the 200 images are at least 0.5 similar.*higher --threshold/);
    pairs.copyOf.fill(0, 1); // all turn out to be copies of the first
    pairs.add(0, 1, 0.6);
    expect(pairs.length).toBe(1);
  });
});

describe("approximate index", () => {
  const rows = 20_000;
  const path = join(folder, "vectors.index");
  const queries = Array.from({ length: 400 }, (_, i) => i * 50);

  test("finds nearly what the exact search finds; is saved, read again, and built anew for other vectors", async () => {
    using exact = await from(clustered(rows, 64));
    const stages: string[] = [];
    using images = await from(clustered(rows, 64), { approximate: true, index: path, onProgress: ({ stage }) => void stages.push(stage) });
    expect([images.isApproximate, images.length, images.dim]).toEqual([true, rows, 64]);
    expect(stages).toContain("index");
    const [wanted, found] = [await exact.searchRows(queries, 10), await images.searchRows(queries, 10)];
    let hits = 0;
    for (const [q, each] of found.entries()) {
      expect(each.length).toBe(10);
      expect(each.every(({ index }) => index !== queries[q])).toBe(true);
      const right = new Map(wanted[q]!.map(({ index, similarity }) => [index, similarity]));
      for (const { index, similarity } of each) {
        if (!right.has(index)) continue;
        hits++;
        expect(similarity).toBeCloseTo(right.get(index)!, 5); // of the exact vectors
      }
    }
    const recall = hits / (10 * queries.length);
    expect(recall).toBeGreaterThan(0.97);

    stages.length = 0;
    using again = await from(clustered(rows, 64), { approximate: true, index: path, onProgress: ({ stage }) => void stages.push(stage) });
    expect(stages).toEqual([]);
    expect(await again.searchRows(queries, 10)).toEqual(found);
    const one = torch.scope(() => torch.randn([64], { generator: generator(9) }).data() as Float32Array);
    expect((await again.search([one], 3))[0]).toEqual((await images.search([one, one], 3))[1]);

    // One other value of one vector, and the index is another's.
    const changed = clustered(rows, 64);
    torch.scope(() => void changed.select(0, 7).narrow(0, 0, 1).add_(1));
    expect(await ApproximateIndex.load(path, changed)).toBeNull();
    changed.dispose();
  }, 180_000);

  test("near-duplicates are those of all pairs", async () => {
    const planted = (): Tensor => clustered(4000, 64, { size: 5, spread: 0.05 });
    using exact = await from(planted());
    using images = await from(planted(), { approximate: true });
    const [wanted, found] = [await exact.duplicates(), await images.duplicates()];
    expect(wanted.length).toBe(400);
    expect(found.map((group) => group.images.map(({ index }) => index))).toEqual(wanted.map((group) => group.images.map(({ index }) => index)));
    // More copies than are asked for at first.
    const many = clustered(1000, 64, { size: 100, spread: 0.01 });
    using crowd = await from(many, { approximate: true });
    expect((await crowd.duplicates({ threshold: 0.9 })).map((group) => group.images.length)).toEqual([100, 100, 100, 100, 100]);
  }, 60_000);

  test("files that are no index, or a damaged one, are told from those of other images", async () => {
    const features = drawn(50, 8, 7);
    const index = await ApproximateIndex.build(features);
    const own = join(folder, "small.index");
    await index.save(own);
    expect((await ApproximateIndex.load(own, features))!.count).toBe(50);
    expect(await ApproximateIndex.load(join(folder, "none.index"), features)).toBeNull();
    const foreign = join(folder, "foreign.index");
    writeFileSync(foreign, "my own notes");
    await expect(ApproximateIndex.load(foreign, features)).rejects.toThrow(IndexFileError);
    await expect(ApproximateIndex.load(foreign, features)).rejects.toThrow(/no index that was written here.*another name/);
    const size = readFileSync(own).length;
    truncateSync(own, size - 10);
    await expect(ApproximateIndex.load(own, features)).rejects.toThrow(/is damaged: its bytes are not those that were written; remove it/);
    writeFileSync(own, Buffer.alloc(size, 7));
    await expect(ApproximateIndex.load(own, features)).rejects.toThrow(IndexFileError);
    features.dispose();
  });

  test("without the package it is said how to get it", async () => {
    await expect(loadUsearch("usearch-which-is-not-there")).rejects.toThrow(MissingPackageError);
    await expect(loadUsearch("usearch-which-is-not-there")).rejects.toThrow(/is not installed; run: npm install .*, or search exactly \(--exact\)/);
  });
});
