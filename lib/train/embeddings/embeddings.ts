import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** Rows that follow one another: `names.length` rows of `dim` values. */
export interface EmbeddingChunk {
  names: readonly string[];
  /** Row by row. */
  features: Float32Array;
}

/** Embeddings that are to be written, wherever they lie: only a chunk of them needs to be in memory at a time. */
export interface EmbeddingRows {
  readonly count: number;
  /** Length of a feature vector. */
  readonly dim: number;
  /** All rows in order; may be called more than once. */
  chunks(): AsyncIterable<EmbeddingChunk>;
}

/** Embeddings in memory. */
export interface Embeddings {
  /** File names, as they were when the features were computed. */
  names: string[];
  /** Float32 [names.length, dim] on the CPU. */
  features: Tensor;
  [Symbol.dispose](): void;
}

/** An embeddings file that cannot be read or written: damaged, of an unknown kind, or not of embeddings. The message says what to do. */
export class EmbeddingFileError extends Error {
  override readonly name = "EmbeddingFileError";

  constructor(readonly file: string, readonly reason: string, options?: ErrorOptions) {
    super(`${file}: ${reason}`, options);
  }
}

/** Longest feature vector that is read; the widest encoders have a few thousand values. */
export const MOST_DIMENSIONS = 65_536;

/** Values in a chunk of rows, 16 MiB: of a million images only so much is in memory. */
const CHUNK_VALUES = 2 ** 22;

/** How many rows of a length make a chunk. */
export function rowsPerChunk(dim: number): number {
  return Math.max(1, Math.floor(CHUNK_VALUES / Math.max(1, dim)));
}

/** Embeddings in memory as rows to be written. `features` is [N, D] of any floating dtype and device. */
export function rowsOf({ names, features }: Pick<Embeddings, "names" | "features">): EmbeddingRows {
  const [count, dim] = features.shape as [number, number];
  if (features.shape.length !== 2 || count !== names.length) {
    throw new TypeError(`embeddings are features [N, D] and N names, got [${features.shape.join(", ")}] and ${names.length} names`);
  }
  const step = rowsPerChunk(dim);
  return {
    count,
    dim,
    async *chunks() {
      for (let first = 0; first < count; first += step) {
        const size = Math.min(step, count - first);
        const values = torch.scope(() => features.narrow(0, first, size).to("cpu").to("float32").contiguous().data() as Float32Array);
        yield { names: names.slice(first, first + size), features: values };
      }
    },
  };
}

/** The same rows in chunks of `size`, the last one aside, however they come. */
export async function* inChunksOf(size: number, rows: EmbeddingRows): AsyncGenerator<EmbeddingChunk> {
  const { dim } = rows;
  let names: string[] = [];
  let features = new Float32Array(size * dim);
  for await (const chunk of rows.chunks()) {
    for (let first = 0; first < chunk.names.length;) {
      const taken = Math.min(size - names.length, chunk.names.length - first);
      features.set(chunk.features.subarray(first * dim, (first + taken) * dim), names.length * dim);
      names.push(...chunk.names.slice(first, first + taken));
      first += taken;
      if (names.length < size) continue;
      yield { names, features };
      names = [];
      features = new Float32Array(size * dim);
    }
  }
  if (names.length > 0) yield { names, features: features.subarray(0, names.length * dim) };
}

/** Features [count, dim] that are filled row by row; the caller owns the tensor. */
export class FeatureRows {
  readonly tensor: Tensor;
  /** Rows that wait to be copied together: a call for each would take longer than the reading. */
  readonly #waiting: Float32Array<ArrayBuffer>;
  #held = 0;
  #copied = 0;

  constructor(readonly count: number, readonly dim: number) {
    this.tensor = torch.keep(torch.empty([count, dim], { dtype: "float32" }));
    this.#waiting = new Float32Array(Math.min(count, rowsPerChunk(dim)) * dim);
  }

  /** Adds a row of `dim` values. */
  push(values: ArrayLike<number>): void {
    this.#waiting.set(values, this.#held);
    this.#held += this.dim;
    if (this.#held === this.#waiting.length) this.#copy();
  }

  /** The tensor, after the last row. */
  finished(): Tensor {
    this.#copy();
    return this.tensor;
  }

  #copy(): void {
    const rows = this.#held / this.dim;
    if (rows === 0) return;
    torch.scope(() => torch.noGrad(() => {
      this.tensor.narrow(0, this.#copied, rows).copy_(torch.fromTypedArray(this.#waiting.subarray(0, this.#held), [rows, this.dim]));
    }));
    this.#copied += rows;
    this.#held = 0;
  }
}

/**
 * Embeddings that were read, once it is sure that all values are numbers. When they are not, the tensor is disposed of.
 *
 * @throws EmbeddingFileError that names the first row with another value
 */
export function checkedEmbeddings(file: string, names: string[], features: Tensor): Embeddings {
  const step = rowsPerChunk(features.size(1));
  for (let first = 0; first < names.length; first += step) {
    const size = Math.min(step, names.length - first);
    const finite = torch.scope(() => torch.isfinite(features.narrow(0, first, size)).all(1).toArray() as boolean[]);
    const row = finite.indexOf(false);
    if (row < 0) continue;
    features.dispose();
    throw new EmbeddingFileError(
      file, `the features of row ${first + row} (${quoted(names[first + row]!)}) are not finite numbers; compute them again with moco embed`,
    );
  }
  return { names, features, [Symbol.dispose]: () => features.dispose() };
}

/** @throws EmbeddingFileError for a length that no feature vector has */
export function requireDimensions(file: string, dim: number): void {
  if (Number.isSafeInteger(dim) && dim >= 1 && dim <= MOST_DIMENSIONS) return;
  throw new EmbeddingFileError(file, `its rows have ${dim} values; embeddings have 1 to ${MOST_DIMENSIONS}`);
}

/** A name out of a file, safe to print and not too long. */
export function quoted(name: string): string {
  const cut = name.length > 120 ? `${name.slice(0, 120)}…` : name;
  return JSON.stringify(cut).replace(/[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (character) =>
    `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** JSON in one line of text that any reader of UTF-8 takes: half surrogate pairs are escaped, and so is what stands for undecodable bytes. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replaceAll("\ufffd", "\\ufffd");
}
