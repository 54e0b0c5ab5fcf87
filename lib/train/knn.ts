import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** Rows scored at a time: a 1024 × gallery matrix of similarities. */
const chunk = 1024;

/** Rows of length 1. `features` is [N, D] of any floating dtype; the result float32. */
export function normalized(features: Tensor): Tensor {
  return torch.scope(() => {
    const rows = features.to("float32");
    return rows.div(torch.linalgVectorNorm(rows, 2, [1], true).clamp(1e-12));
  });
}

/** Calls `visit` with each chunk's first row and its similarities [rows, M] of queries to gallery, both normalised. */
function forEachChunk(queries: Tensor, gallery: Tensor, visit: (first: number, similarities: Tensor) => void): void {
  const count = queries.size(0);
  for (let first = 0; first < count; first += chunk) {
    torch.scope(() => {
      const rows = queries.narrow(0, first, Math.min(chunk, count - first));
      visit(first, torch.mm(rows, gallery.t()));
    });
  }
}

export interface KnnOptions {
  /** Neighbours that vote. */
  k?: number;
  /** A neighbour's vote weighs exp(cosine similarity / temperature). */
  temperature?: number;
}

/** Feature vectors [N, D] and the class of each. */
export interface LabelledFeatures {
  features: Tensor;
  labels: readonly number[];
}

/**
 * Accuracy of weighted k-nearest-neighbour classification on frozen features (Wu et al. 2018, as usual in self-supervised learning): each query
 * takes the class that wins the vote of its `k` most similar gallery rows.
 *
 * @returns the fraction of queries whose class wins
 * @throws RangeError when the gallery has fewer rows than neighbours asked for, or the labels are not one for each row
 */
export function knnAccuracy(queries: LabelledFeatures, gallery: LabelledFeatures, options: KnnOptions = {}): number {
  const { k = 20, temperature = 0.07 } = options;
  for (const { features, labels } of [queries, gallery]) {
    const rows = features.size(0);
    if (labels.length !== rows) throw new RangeError(`knnAccuracy: ${rows} rows of features but ${labels.length} labels; give one for each row`);
  }
  if (k < 1 || k > gallery.labels.length) {
    throw new RangeError(`knnAccuracy: k = ${k} neighbours of a gallery of ${gallery.labels.length}; choose k between 1 and that`);
  }
  const numClasses = Math.max(...gallery.labels) + 1;
  const { device } = queries.features;
  return torch.noGrad(() =>
    torch.scope(() => {
      const classes = torch.tensor([...gallery.labels], undefined, { dtype: "int64", device });
      const truth = torch.tensor([...queries.labels], undefined, { dtype: "int64", device });
      let correct = 0;
      forEachChunk(normalized(queries.features), normalized(gallery.features), (first, similarities) => {
        const size = similarities.size(0);
        const [values, indices] = torch.topk(similarities, k); // [rows, k]
        const votes = torch.zeros([size, numClasses], { device });
        votes.scatterAdd_(1, classes.indexSelect(0, indices.flatten()).view([size, k]), values.div(temperature).exp());
        correct += votes.argmax(1).eq(truth.narrow(0, first, size)).sum().item();
      });
      return correct / queries.labels.length;
    }),
  );
}

/**
 * Fraction of queries whose own partner, the gallery row of the same index, is among the `n` most similar gallery rows, for each `n` of `at`.
 * Both are [N, D].
 */
export function recallAt(queries: Tensor, gallery: Tensor, at: readonly number[]): number[] {
  return torch.noGrad(() =>
    torch.scope(() => {
      const hits = at.map(() => 0);
      forEachChunk(normalized(queries), normalized(gallery), (first, similarities) => {
        const own = torch.diagonal(similarities, first).unsqueeze(1); // [rows, 1]
        // The rank of the partner is the number of rows more similar than it.
        const rank = similarities.gt(own).sum([1]);
        at.forEach((n, i) => (hits[i] = (hits[i] as number) + rank.lt(n).sum().item()));
      });
      return hits.map((count) => count / queries.size(0));
    }),
  );
}

/** Indices of the `k` most similar gallery rows of each query row, most similar first: [Q][k]. */
export function nearestNeighbours(queries: Tensor, gallery: Tensor, k: number): number[][] {
  return torch.noGrad(() =>
    torch.scope(() => {
      const found: number[][] = [];
      forEachChunk(normalized(queries), normalized(gallery), (_, similarities) => {
        found.push(...(torch.topk(similarities, k)[1].toArray() as number[][]));
      });
      return found;
    }),
  );
}
