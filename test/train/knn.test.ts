import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { knnAccuracy, nearestNeighbours, recallAt } from "../../lib/train/knn.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

/** The same by plain loops over numbers. */
function slowly(queries: number[][], gallery: number[][]): number[][] {
  const unit = (row: number[]): number[] => row.map((value) => value / Math.hypot(...row));
  const units = gallery.map(unit);
  return queries.map(unit).map((q) => units.map((g) => g.reduce((sum, value, i) => sum + value * (q[i] as number), 0)));
}

function drawn(rows: number, seed: number): torch.Tensor {
  return torch.randn([rows, 6], { generator: new torch.Generator().manualSeed(seed) });
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

test("what does not fit is refused with the numbers", () => {
  torch.scope(() => {
    const three = { features: drawn(3, 1), labels: [0, 1, 2] };
    expect(() => knnAccuracy(three, three, { k: 4 })).toThrow(/k = 4 neighbours of a gallery of 3/);
    expect(() => knnAccuracy(three, { ...three, labels: [0] })).toThrow(/3 rows of features but 1 labels/);
  });
});
