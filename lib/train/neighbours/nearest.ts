import { setImmediate as nextTurn } from "node:timers/promises";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { ApproximateIndex } from "./approximateIndex.js";
import { duplicateGroups } from "./duplicateGroups.js";
import { readEmbeddings } from "../embeddings/embeddingFile.js";
import type { Embeddings } from "../embeddings/embeddings.js";
import { OptionError, requireRange, requireWhole, resolveDevice } from "../options.js";
import { approximatePairs, findSimilarPairs } from "./similarPairs.js";
import { nearestChunks, normalized } from "./similarity.js";

/** Images cannot be compared with these. */
export class NearestError extends Error {
  override readonly name = "NearestError";
}

/** An image near to another. */
export interface Neighbour {
  /** Its row among the embeddings. */
  index: number;
  name: string;
  /** Cosine similarity of both feature vectors, at most 1. */
  similarity: number;
}

/** Images that are nearly the same, any two of them. */
export interface DuplicateGroup {
  /** In the order of the embeddings, each with its similarity to the first. */
  images: Neighbour[];
  /** The smallest similarity of any two of them. */
  similarity: number;
}

/** How images are compared: exactly, or by an index. */
export interface NearestOptions {
  /** Where exact comparisons run. Default: the first GPU, where there is one. */
  device?: string;
  /** Search with an approximate index, or exactly. Default: exactly up to a million images, approximately beyond. */
  approximate?: boolean;
  /** File of the approximate index: read if it is one of these embeddings, else built and written. */
  index?: string;
  onProgress?(progress: NearestProgress): void;
}

/** What a search tells while it works. */
export interface NearestProgress {
  stage: "index" | "search" | "pairs";
  done: number;
  total: number;
}

/** Images up to which every search is exact. */
const exactUpTo = 1_000_000;

/**
 * Similarity from which on two images count as nearly the same, once what all have in common is taken away. Copies that were resized, compressed
 * again or cropped by two percent came out at 0.99 and more with four small encoders, nearly all other images below.
 */
export const defaultThreshold = 0.97;

/**
 * Differences of this length, of vectors of length 1, count for little: where all images are copies of one, nothing but noise is left when
 * what they have in common is taken away.
 */
const noise = 0.01;

/** From which similarity on images count as the same. */
export interface DuplicateOptions {
  /** See `defaultThreshold`. */
  threshold?: number;
  /**
   * Compare features as they are. Default false: the mean of all is taken away first. Features of an encoder share a large part, so that any two
   * images may be 0.99 similar, with one encoder more, with another less; without it images have nothing in common on average, and a threshold
   * means the same for all encoders.
   */
  raw?: boolean;
}

/** Candidates of the approximate index for each neighbour that is asked for; the exact vectors decide among them. */
const candidates = (k: number): number => 2 * k + 10;

/**
 * Finds images by their feature vectors, by cosine similarity: those nearest to others, and groups of near-duplicates. Exact, in blocks, on
 * the CPU or a GPU; above a million images with an approximate index (HNSW, of the package usearch), whose findings are compared exactly.
 *
 * @example
 * using images = await NearestImages.open("features.npy");
 * const [found] = await images.search([vector], 5); // the five nearest images to one feature vector, the most similar first
 * const groups = await images.duplicates();
 */
export class NearestImages {
  readonly #onProgress: (progress: NearestProgress) => void;

  private constructor(
    readonly names: readonly string[], private readonly vectors: Tensor, private readonly scales: Tensor,
    private readonly index: ApproximateIndex | null, options: NearestOptions,
  ) {
    this.#onProgress = options.onProgress ?? (() => undefined);
  }

  /**
   * Reads an embeddings file that `moco embed` wrote.
   *
   * @throws EmbeddingFileError; the errors of {@link from}
   */
  static async open(path: string, options: NearestOptions = {}): Promise<NearestImages> {
    return NearestImages.from(await readEmbeddings(path), options);
  }

  /**
   * @param embeddings names, and features [N, D] of any length, which it takes over
   * @throws NearestError where there are none or not all of them are finite; OptionError; MissingPackageError, IndexFileError
   */
  static async from({ names, features }: Pick<Embeddings, "names" | "features">, options: NearestOptions = {}): Promise<NearestImages> {
    let vectors = features;
    let scales: Tensor | null = null;
    try {
      const device = resolveDevice(options.device);
      if (names.length !== vectors.size(0)) throw new TypeError(`${vectors.size(0)} feature vectors have ${names.length} names; give one for each`);
      if (names.length === 0) throw new NearestError("there are no images to compare with; give a folder or an embeddings file that has some");
      const approximate = options.approximate ?? names.length > exactUpTo;
      if (!approximate && options.index !== undefined) {
        throw new OptionError(`index is "${options.index}", and ${names.length} images are searched exactly; leave it out, or ask for it (--approximate)`);
      }
      vectors = moved(vectors, approximate ? "cpu" : device);
      scales = torch.keep(torch.scope(() => torch.linalgVectorNorm(vectors, 2, [1]).clamp(1e-12).reciprocal())); // [N]
      requireFinite(scales, names);
      const index = approximate ? await openIndex(vectors, options) : null;
      return new NearestImages(names, vectors, scales, index, options);
    } catch (error) {
      vectors.dispose();
      scales?.dispose();
      throw error;
    }
  }

  get length(): number {
    return this.names.length;
  }

  /** Length of a feature vector. */
  get dim(): number {
    return this.vectors.size(1);
  }

  /** Whether searches go through the approximate index. */
  get isApproximate(): boolean {
    return this.index !== null;
  }

  /**
   * The nearest images to each feature vector, the most similar first.
   *
   * @param queries vectors of {@link dim} values, or a tensor [Q, dim], of any length
   * @param k how many for each
   * @throws NearestError for vectors of another length; OptionError for more than there are
   */
  async search(queries: readonly Float32Array[] | Tensor, k: number): Promise<Neighbour[][]> {
    const scope = torch.openScope();
    try {
      const rows = scope.run(() => (queries instanceof torch.Tensor ? queries : stacked(queries, this.dim)));
      if (rows.size(1) !== this.dim) throw this.#otherLength(rows.size(1));
      this.#requireNeighbours(k, this.length);
      return await this.#nearest(scope.run(() => normalized(rows)), k, null);
    } finally {
      scope.close();
    }
  }

  /**
   * The nearest images to some of the images themselves, which are not among their own.
   *
   * @param rows of the embeddings
   * @throws OptionError for more neighbours than there are others
   */
  async searchRows(rows: readonly number[], k: number): Promise<Neighbour[][]> {
    this.#requireNeighbours(k, this.length - 1);
    using scope = torch.openScope();
    const queries = scope.run(() => {
      const index = torch.tensor(BigInt64Array.from(rows, BigInt), undefined, { device: this.vectors.device });
      return normalized(this.vectors.indexSelect(0, index));
    });
    return await this.#nearest(queries, k, Int32Array.from(rows));
  }

  /**
   * Groups of near-duplicates: any two of a group are at least `threshold` similar (complete linkage), and each image is in one group at
   * most. All pairs are compared; with the approximate index only each image's nearest, so that very large groups may come in pieces.
   *
   * @returns the largest group first
   * @throws TooManyPairsError when the threshold holds for so many pairs that it tells nothing
   */
  async duplicates({ threshold = defaultThreshold, raw = false }: DuplicateOptions = {}): Promise<DuplicateGroup[]> {
    requireRange("threshold", threshold, Number.MIN_VALUE, 1);
    const { vectors, scales, length: count } = this;
    const tell = (done: number, total: number): void => this.#onProgress({ stage: "pairs", done, total });
    using mean = raw ? null : torch.keep(torch.scope(() => torch.mv(vectors.t(), scales).div(count))); // [D], of vectors of length 1
    const compared = (rows: Tensor): Tensor => {
      if (mean === null) return normalized(rows);
      const residual = normalized(rows).sub(mean);
      return normalized(torch.cat([residual, torch.full([rows.size(0), 1], noise, { device: rows.device })], 1));
    };
    const pairs = this.index === null
      ? await findSimilarPairs(
        { count, device: vectors.device, block: (first, size) => compared(vectors.narrow(0, first, size)) }, { threshold, onBlocks: tell })
      : await approximatePairs(count, threshold, (rows, k) => this.#candidates(rows, k, compared), tell);
    const named = (index: number, similarity: number): Neighbour => ({ index, name: this.names[index]!, similarity: Math.min(1, similarity) });
    return duplicateGroups(pairs).map(({ rows, similarities, least }) => ({
      images: rows.map((row, i) => named(row, similarities[i]!)), similarity: Math.min(1, least),
    }));
  }

  /** Frees the feature vectors. */
  dispose(): void {
    this.vectors.dispose();
    this.scales.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #requireNeighbours(k: number, available: number): void {
    requireWhole("k", k, 1);
    if (k > available) throw new OptionError(`k is ${k}, and there are ${available} ${available < this.length ? "other " : ""}images; choose k from 1 to ${available}`);
  }

  #otherLength(length: number): NearestError {
    return new NearestError(
      `the query's features have ${length} values, and those of the images ${this.dim}: they are from different encoders or layers; ` +
      "compute both with the same checkpoint and layer",
    );
  }

  /** @param queries [Q, dim], rows of length 1 */
  async #nearest(queries: Tensor, k: number, own: Int32Array | null): Promise<Neighbour[][]> {
    const total = queries.size(0);
    const found: Neighbour[][] = [];
    const add = (rows: ArrayLike<number>, values: ArrayLike<number>): void => {
      found.push(Array.from(rows, (index, i) => ({ index, name: this.names[index]!, similarity: Math.min(1, values[i]!) })));
      this.#onProgress({ stage: "search", done: found.length, total });
    };
    if (this.index !== null) {
      for (let first = 0; first < total; first += rowsAtOnce) {
        const size = Math.min(rowsAtOnce, total - first);
        const chunk = torch.scope(() => queries.narrow(0, first, size).data() as Float32Array);
        for (const [i, { rows, similarities }] of this.#ranked(chunk, candidates(k)).entries()) {
          const kept = [...rows.keys()].filter((each) => rows[each] !== own?.[first + i]).slice(0, k);
          add(kept.map((each) => rows[each]!), kept.map((each) => similarities[each]!));
        }
        await nextTurn();
      }
      return found;
    }
    for (const chunk of nearestChunks(queries, this.vectors, k, { scales: this.scales, ...(own && { own }) })) {
      using nearest = chunk;
      const rows = torch.scope(() => nearest.indices.to("int32").data() as Int32Array);
      const values = nearest.similarities.data() as Float32Array;
      for (let at = 0; at < rows.length; at += k) add(rows.subarray(at, at + k), values.subarray(at, at + k));
      await nextTurn();
    }
    return found;
  }

  /** The `k` probable nearest of some rows, ranked by the similarity of what `compared` makes of the vectors. */
  #candidates(rows: Int32Array, k: number, compared: (rows: Tensor) => Tensor): Ranked[] {
    const queries = torch.scope(() => normalized(this.vectors.indexSelect(0, rowIndex(rows))).data() as Float32Array);
    return this.index!.search(queries, k).map((found, i) => torch.scope(() => {
      const both = compared(this.vectors.indexSelect(0, rowIndex([rows[i]!, ...found])));
      return ranked(found, torch.mv(both.narrow(0, 1, found.length), both.select(0, 0)));
    }));
  }

  #ranked(queries: Float32Array, k: number): Ranked[] {
    return this.index!.search(queries, k).map((rows, q) => torch.scope(() => {
      const query = torch.tensor(queries.subarray(q * this.dim, (q + 1) * this.dim));
      const index = rowIndex(rows);
      return ranked(rows, torch.mv(this.vectors.indexSelect(0, index), query).mul(this.scales.indexSelect(0, index)));
    }));
  }
}

function rowIndex(rows: Iterable<number>): Tensor {
  return torch.tensor(BigInt64Array.from(Array.from(rows, BigInt)));
}

function ranked(rows: Int32Array, exact: Tensor): Ranked {
  const [similarities, order] = torch.sort(exact, 0, true);
  const places = order.to("int32").data() as Int32Array;
  return { rows: places.map((place) => rows[place]!), similarities: similarities.data() as Float32Array };
}

/** Rows, the most similar first. */
export interface Ranked {
  rows: Int32Array;
  similarities: Float32Array;
}

/** Queries of the approximate index between two turns of the event loop. */
const rowsAtOnce = 256;

async function openIndex(vectors: Tensor, { index: path, onProgress }: NearestOptions): Promise<ApproximateIndex> {
  const saved = path === undefined ? null : await ApproximateIndex.load(path, vectors);
  if (saved !== null) return saved;
  const built = await ApproximateIndex.build(vectors, (done, total) => onProgress?.({ stage: "index", done, total }));
  if (path !== undefined) await built.save(path);
  return built;
}

/** Float32 on the device; the former tensor is gone. */
function moved(features: Tensor, device: string): Tensor {
  const vectors = torch.keep(torch.scope(() => features.to({ dtype: "float32", device }).contiguous()));
  if (vectors !== features) features.dispose();
  return vectors;
}

function stacked(queries: readonly Float32Array[], dim: number): Tensor {
  const length = queries.find((query) => query.length !== dim)?.length ?? dim;
  return torch.tensor(Float32Array.from(queries.flatMap((query) => [...query])), [queries.length, length]);
}

function requireFinite(scales: Tensor, names: readonly string[]): void {
  const bad = torch.scope(() => {
    const wrong = torch.isfinite(scales).logicalNot().logicalOr(scales.eq(0)); // of an infinite vector
    return wrong.any().item() ? wrong.to("int32").argmax(0).item() : null;
  });
  if (bad === null) return;
  throw new NearestError(`the features of ${names[bad]} are not finite numbers; compute them again, see moco embed --help`);
}
