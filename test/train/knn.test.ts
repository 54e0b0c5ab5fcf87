import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { knnAccuracy, knnScores, nearestNeighbours, recallAt, type LabelledFeatures } from "../../lib/train/neighbours/knn.js";
import { OptionError } from "../../lib/train/options.js";
import { nearestChunks, normalized } from "../../lib/train/neighbours/similarity.js";
import { readJson, readNpz } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

/** The same by plain loops over numbers. */
function slowly(queries: number[][], gallery: number[][]): number[][] {
  const unit = (row: number[]): number[] => row.map((value) => value / Math.hypot(...row));
  const units = gallery.map(unit);
  return queries.map(unit).map((q) => units.map((g) => g.reduce((sum, value, i) => sum + value * (q[i] as number), 0)));
}

function drawn(rows: number, seed: number, dim = 6): torch.Tensor {
  return torch.randn([rows, dim], { generator: new torch.Generator().manualSeed(seed) });
}

test("neighbours, recall and the weighted vote are those of plain loops", () => {
  torch.scope(() => {
    const [queries, gallery] = [drawn(1500, 1), drawn(1500, 2)]; // more rows than one chunk
    torch.noGrad(() => gallery.narrow(0, 0, 700).lerp_(queries.narrow(0, 0, 700), 0.9));
    const similarities = slowly(queries.toArray() as number[][], gallery.toArray() as number[][]);
    const order = similarities.map((row) => row.map((_, i) => i).sort((a, b) => (row[b] as number) - (row[a] as number)));

    expect(nearestNeighbours(queries, gallery, 3)).toEqual(order.map((row) => row.slice(0, 3)));
    const recall = (n: number): number => order.filter((row, i) => row.indexOf(i) < n).length / order.length;
    const found = recallAt(queries, gallery, [1, 5]);
    expect(found).toEqual([recall(1), recall(5)]);
    expect(found[0]).toBeGreaterThan(0.2);

    const [queryLabels, galleryLabels] = [order.map((_, i) => i % 4), order.map((_, i) => (i * 7) % 4)];
    const votes = order.map((row, q) => {
      const weights = [0, 0, 0, 0];
      for (const i of row.slice(0, 5)) weights[galleryLabels[i] as number]! += Math.exp((similarities[q]?.[i] as number) / 0.1);
      return weights.indexOf(Math.max(...weights));
    });
    const accuracy = votes.filter((vote, i) => vote === queryLabels[i]).length / votes.length;
    const options = { k: 5, temperature: 0.1 };
    expect(knnAccuracy({ features: queries, labels: queryLabels }, { features: gallery, labels: galleryLabels }, options)).toBe(accuracy);
  });
});

test("a gallery of several blocks gives what one matrix gives, and leaves rows out", () => {
  torch.scope(() => {
    const [queries, gallery] = [normalized(drawn(1100, 3)), normalized(drawn(40_000, 4))];
    const own = Int32Array.from({ length: 1100 }, (_, i) => (i % 3 === 0 ? -1 : (i * 36) % 40_000));
    const all = torch.mm(queries, gallery.t());
    const masked = torch.scope(() => {
      const rows = [...own.keys()].filter((i) => own[i]! >= 0);
      const index = (values: number[]): torch.Tensor => torch.tensor(values, undefined, { dtype: "int64" });
      return all.indexPut([index(rows), index(rows.map((i) => own[i]!))], torch.tensor([-Infinity]).sum());
    });
    for (const [expected, options] of [[all, {}], [masked, { own }]] as const) {
      const [values] = torch.topk(expected, 7);
      let seen = 0;
      for (const chunk of nearestChunks(queries, gallery, 7, options)) {
        using nearest = chunk;
        const rows = nearest.indices.size(0);
        expect(nearest.first).toBe(seen);
        const there = values.narrow(0, seen, rows);
        expect(nearest.similarities.sub(there).abs().max().item()).toBeLessThan(1e-6);
        // Each index leads to its similarity.
        expect(expected.narrow(0, seen, rows).gather(1, nearest.indices).sub(there).abs().max().item()).toBeLessThan(1e-6);
        seen += rows;
      }
      expect(seen).toBe(1100);
    }
  });
});

describe("votes of scikit-learn and PyTorch", () => {
  const arrays = readNpz<Float32Array | Int32Array>("knn/knn.npz");
  const expected = readJson<{ numClasses: number; cases: { k: number; temperature: number; hits: number[]; leaveOneOut: number[] }[] }>("knn/expected.json");

  const parts = (): { queries: LabelledFeatures; gallery: LabelledFeatures } => {
    const read = (features: string, labels: string): LabelledFeatures => ({
      features: normalized(torch.tensor(arrays.get(features)!.data, arrays.get(features)!.shape)), labels: [...arrays.get(labels)!.data],
    });
    return { queries: read("queries", "query_labels"), gallery: read("gallery", "gallery_labels") };
  };

  test.each([0.07, 0.5])("temperature %d: every k in one pass, by a gallery and by leaving one out", async (temperature) => {
    using scope = torch.openScope();
    const { queries, gallery } = scope.run(parts);
    const cases = expected.cases.filter((each) => each.temperature === temperature);
    const options = { neighbours: cases.map(({ k }) => k), temperature, numClasses: expected.numClasses };
    const percent = (hits: number[], of: LabelledFeatures): number[] => hits.map((each) => (100 * each) / of.labels.length);
    for (const [scores, key, of] of [
      [await knnScores(queries, gallery, options), "hits", queries],
      [await knnScores(gallery, gallery, { ...options, leaveOneOut: true }), "leaveOneOut", gallery],
    ] as const) {
      expect(scores).toEqual(cases.map((each) => {
        const [acc1, acc5] = percent(each[key], of);
        return { k: each.k, acc1, acc5 };
      }));
    }
    // Half the memory, nearly the same votes.
    for (const dtype of ["bfloat16", "float16"] as const) {
      const half = { ...gallery, features: scope.run(() => gallery.features.to(dtype)) };
      const [exact, rounded] = [await knnScores(queries, gallery, options), await knnScores(queries, half, options)];
      rounded.forEach(({ acc1 }, i) => expect(Math.abs(acc1 - exact[i]!.acc1)).toBeLessThan(3));
    }
  });

  test("a temperature at which votes would overflow leaves the nearest to decide", async () => {
    using scope = torch.openScope();
    const { queries, gallery } = scope.run(parts);
    const cold = await knnScores(queries, gallery, { neighbours: [20], temperature: 1e-4 });
    const nearest = await knnScores(queries, gallery, { neighbours: [1] });
    expect(cold[0]!.acc1).toBeCloseTo(nearest[0]!.acc1, 0);
    expect(cold[0]!.acc1).toBeGreaterThan(50);
  });
});

test("classes without votes rank last, by their number; more classes than a block holds", async () => {
  using scope = torch.openScope();
  const features = scope.run(() => normalized(drawn(4, 5)));
  const gallery = { features, labels: [7, 7, 7, 7] };
  const judge = async (label: number, numClasses: number): Promise<number[]> => {
    const queries = { features, labels: [label, label, label, label] };
    const { acc1, acc5 } = (await knnScores(queries, gallery, { neighbours: [4], numClasses }))[0]!;
    return [acc1, acc5];
  };
  expect(await judge(7, 8)).toEqual([100, 100]);
  expect(await judge(2, 8)).toEqual([0, 100]); // fourth: k is 4, and so are the guesses
  expect(await judge(3, 8)).toEqual([0, 0]);
  expect(await judge(7, 10_000_000)).toEqual([100, 100]);
});

test("what does not fit is refused with the numbers", async () => {
  using scope = torch.openScope();
  const three = { features: scope.run(() => drawn(3, 1)), labels: [0, 1, 2] };
  expect(() => knnAccuracy(three, three, { k: 4 })).toThrow(/k is 4, and the gallery has 3 images; choose k from 1 to 3/);
  expect(() => knnAccuracy(three, { ...three, labels: [0] })).toThrow(/3 rows of features but 1 labels/);
  await expect(knnScores(three, three, { neighbours: [1, 3], leaveOneOut: true })).rejects.toThrow(OptionError);
  await expect(knnScores(three, three, { neighbours: [1, 3], leaveOneOut: true })).rejects.toThrow(/each leaves itself out; choose k from 1 to 2/);
  await expect(knnScores(three, three, { neighbours: [0] })).rejects.toThrow(/k is 0; give a whole number of at least 1/);
});
