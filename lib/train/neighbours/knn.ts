import { setImmediate as nextTurn } from "node:timers/promises";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { OptionError, requireWhole } from "../options.js";
import { blockWidth, nearestChunks, normalized, type NearestChunk } from "./similarity.js";

/** Feature vectors [N, D] and the class of each. */
export interface LabelledFeatures {
  features: Tensor;
  labels: readonly number[];
}

export interface KnnOptions {
  /** Neighbours that vote. Default 20. */
  k?: number;
  /** A neighbour's vote weighs exp(cosine similarity / temperature). Default 0.07. */
  temperature?: number;
}

export interface KnnScoreOptions {
  /** Numbers of neighbours that vote, all judged in one pass. Default [20]. */
  neighbours?: readonly number[];
  /** See {@link KnnOptions}. */
  temperature?: number;
  /** Default: as many as the gallery's labels count. */
  numClasses?: number;
  /** Query i is row i of the gallery and does not vote for itself. */
  leaveOneOut?: boolean;
  /** Hears how many queries are judged. */
  onQueries?(done: number): void;
}

/** What a vote of `k` neighbours gets right. */
export interface KnnScore {
  k: number;
  /** Percent of queries whose class wins the vote. */
  acc1: number;
  /** Percent of queries whose class is among the first five of the vote (the first k, where that is fewer). */
  acc5: number;
}

/** The defaults that figures of self-supervised encoders are published with: 20 neighbours (DINO), temperature 0.07 (InstDisc). */
export const knnDefaults = { neighbours: [20], temperature: 0.07 } as const;

/**
 * Counts weighted votes of nearest neighbours: each of a query's `k` nearest gallery rows adds exp(similarity / temperature) to its class.
 * Classes are ranked by their votes; of classes with equal votes, as those without any, the one with the smaller number comes first.
 */
class KnnVote {
  readonly #classes: Tensor;
  readonly #truth: Tensor;
  /** Queries whose class came first, or among the first five. */
  readonly hits: { k: number; first: number; firstFive: number }[];

  constructor(
    queries: readonly number[], gallery: readonly number[], device: string,
    private readonly options: { neighbours: readonly number[]; temperature: number; numClasses: number },
  ) {
    const labels = (each: readonly number[]): Tensor => torch.keep(torch.tensor(BigInt64Array.from(each, BigInt), undefined, { device }));
    this.#classes = labels(gallery);
    this.#truth = labels(queries);
    this.hits = options.neighbours.map((k) => ({ k, first: 0, firstFive: 0 }));
  }

  count({ first, similarities, indices }: NearestChunk): void {
    const { numClasses, temperature } = this.options;
    const [rows, most] = [similarities.size(0), similarities.size(1)];
    const step = blockWidth(numClasses, "cpu"); // queries whose votes fill one block
    for (let start = 0; start < rows; start += step) {
      torch.scope(() => {
        const size = Math.min(step, rows - start);
        const nearest = similarities.narrow(0, start, size);
        // Over the largest one's, which changes no order: exp(1 / temperature) overflows at small temperatures.
        const weights = nearest.sub(nearest.narrow(1, 0, 1)).div(temperature).exp(); // [size, most]
        const classes = this.#classes.indexSelect(0, indices.narrow(0, start, size).flatten()).view([size, most]);
        const truth = this.#truth.narrow(0, first + start, size).unsqueeze(1); // [size, 1]
        const before = torch.arange(numClasses, { dtype: "int64", device: truth.device }).unsqueeze(0).lt(truth); // [size, numClasses]
        for (const hits of this.hits) {
          torch.scope(() => {
            const votes = torch.zeros([size, numClasses], { device: weights.device });
            votes.scatterAdd_(1, classes.narrow(1, 0, hits.k), weights.narrow(1, 0, hits.k));
            const own = votes.gather(1, truth);
            const rank = votes.gt(own).logicalOr(votes.eq(own).logicalAnd(before)).sum([1]);
            hits.first += rank.eq(0).sum().item();
            hits.firstFive += rank.lt(Math.min(5, hits.k)).sum().item();
          });
        }
      });
    }
  }

  [Symbol.dispose](): void {
    this.#classes.dispose();
    this.#truth.dispose();
  }
}

/**
 * Weighted k-nearest-neighbour classification on frozen features (Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
 * Discrimination", 2018), as self-supervised encoders are judged: exact, by cosine similarity, in blocks on the gallery's device. Other work
 * gets its turn in between.
 *
 * @param queries features [Q, D]; with `leaveOneOut` the gallery itself
 * @param gallery features [N, D]; both of length 1 row by row, as {@link normalized} makes them, float32 or, for less memory, of half precision
 * @throws OptionError when the gallery has fewer rows than neighbours asked for, RangeError where labels are not one for each row
 */
export async function knnScores(queries: LabelledFeatures, gallery: LabelledFeatures, options: KnnScoreOptions = {}): Promise<KnnScore[]> {
  const { leaveOneOut = false, onQueries } = options;
  const all = { ...knnDefaults, numClasses: largest(gallery.labels) + 1, ...options };
  requireFit(queries, gallery, all.neighbours, leaveOneOut);
  using vote = new KnnVote(queries.labels, gallery.labels, gallery.features.device, all);
  const own = leaveOneOut ? Int32Array.from(queries.labels, (_, row) => row) : undefined;
  const most = largest(all.neighbours);
  for (const chunk of nearestChunks(queries.features, gallery.features, most, { own })) {
    using nearest = chunk;
    vote.count(nearest);
    onQueries?.(nearest.first + nearest.similarities.size(0));
    await nextTurn();
  }
  const percent = (hits: number): number => (100 * hits) / queries.labels.length;
  return vote.hits.map(({ k, first, firstFive }) => ({ k, acc1: percent(first), acc5: percent(firstFive) }));
}

/**
 * Accuracy of one vote over features that need not be of length 1; see {@link knnScores}.
 *
 * @returns the fraction of queries whose class wins
 * @throws as knnScores
 */
export function knnAccuracy(queries: LabelledFeatures, gallery: LabelledFeatures, options: KnnOptions = {}): number {
  const { k = 20, temperature = 0.07 } = options;
  requireFit(queries, gallery, [k], false);
  return torch.scope(() => {
    using vote = new KnnVote(queries.labels, gallery.labels, gallery.features.device, {
      neighbours: [k], temperature, numClasses: Math.max(largest(gallery.labels), largest(queries.labels)) + 1,
    });
    for (const chunk of nearestChunks(normalized(queries.features), normalized(gallery.features), k)) {
      using nearest = chunk;
      vote.count(nearest);
    }
    return vote.hits[0]!.first / queries.labels.length;
  });
}

function requireFit(queries: LabelledFeatures, gallery: LabelledFeatures, neighbours: readonly number[], leaveOneOut: boolean): void {
  for (const { features, labels } of [queries, gallery]) {
    const rows = features.size(0);
    if (labels.length !== rows) throw new RangeError(`kNN: ${rows} rows of features but ${labels.length} labels; give one for each row`);
  }
  requireNeighbours(neighbours, gallery.labels.length, leaveOneOut);
}

/** @throws OptionError when a gallery of `size` images does not have so many neighbours for each query */
export function requireNeighbours(neighbours: readonly number[], size: number, leaveOneOut: boolean): void {
  const available = leaveOneOut ? size - 1 : size;
  for (const k of neighbours) {
    requireWhole("k", k, 1);
    if (k <= available) continue;
    const besides = leaveOneOut ? ", of which each leaves itself out" : "";
    const remedy = available > 0 ? `choose k from 1 to ${available}, or add images` : "add images";
    throw new OptionError(`k is ${k}, and the gallery has ${size} image${size === 1 ? "" : "s"}${besides}; ${remedy}`);
  }
}

/** `Math.max(...values)` for more values than a call takes. */
function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

/**
 * Fraction of queries whose own partner, the gallery row of the same index, is among the `n` most similar gallery rows, for each `n` of `at`.
 * Both are [N, D].
 */
export function recallAt(queries: Tensor, gallery: Tensor, at: readonly number[]): number[] {
  return torch.noGrad(() =>
    torch.scope(() => {
      const hits = at.map(() => 0);
      const [from, to] = [normalized(queries), normalized(gallery)];
      const [count, rows] = [from.size(0), Math.min(1024, blockWidth(to.size(0), to.device))];
      for (let first = 0; first < count; first += rows) {
        torch.scope(() => {
          const similarities = torch.mm(from.narrow(0, first, Math.min(rows, count - first)), to.t());
          const own = torch.diagonal(similarities, first).unsqueeze(1); // [rows, 1]
          // The rank of the partner is the number of rows more similar than it.
          const rank = similarities.gt(own).sum([1]);
          at.forEach((n, i) => (hits[i] = (hits[i] as number) + rank.lt(n).sum().item()));
        });
      }
      return hits.map((count) => count / queries.size(0));
    }),
  );
}

/** Indices of the `k` most similar gallery rows of each query row, most similar first: [Q][k]. */
export function nearestNeighbours(queries: Tensor, gallery: Tensor, k: number): number[][] {
  return torch.scope(() => {
    const found: number[][] = [];
    for (const chunk of nearestChunks(normalized(queries), normalized(gallery), k)) {
      using nearest = chunk;
      found.push(...(nearest.indices.toArray() as number[][]));
    }
    return found;
  });
}
