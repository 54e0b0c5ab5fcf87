import { open, readFile, stat } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { diskFiles, errorCode, putInPlace, writeDurably } from "../../checkpoint/files/durableFile.js";
import type { Tensor } from "../../torch/index.js";

/** What is used of the package `usearch`, which need not be installed. */
interface UsearchIndex {
  add(keys: BigUint64Array, vectors: Float32Array, threads: number): void;
  search(vectors: Float32Array, k: number, threads: number): { keys: BigUint64Array; distances: Float32Array; counts?: BigUint64Array };
  save(path: string): void;
  load(path: string): void;
  size(): number;
  dimensions(): number;
}
interface Usearch {
  Index: new (options: Record<string, unknown>) => UsearchIndex;
}

/** A package that only some users need is not installed, or does not load here. */
export class MissingPackageError extends Error {
  override readonly name = "MissingPackageError";
}

/** A saved index cannot be used. */
export class IndexFileError extends Error {
  override readonly name = "IndexFileError";
}

/**
 * A graph of near neighbours (HNSW). With twice the usual links, 32, ten nearest neighbours among 10,000 random and 10,000 clustered vectors
 * of 384 values are found at 99 % (16: 95 %). Vectors are kept in bfloat16, which halves the memory; who uses the index compares
 * what it finds by the exact vectors.
 */
const settings = { metric: "cos", quantization: "bf16", connectivity: 32, expansion_add: 128, expansion_search: 256, multi: false } as const;

/** Rows that are added between two turns of the event loop. */
const rowsAtOnce = 2048;

/** What lies beside an index and tells whose it is. */
interface IndexFacts {
  format: 1;
  count: number;
  dim: number;
  /** CRC-32 of all vectors' bytes. */
  vectors: number;
  /** CRC-32 of the index's file: the package reads a damaged one without looking, and may end the process. */
  file: number;
}

/** @throws MissingPackageError */
export async function loadUsearch(name = "usearch"): Promise<Usearch> {
  try {
    const module = (await import(name)) as { default?: Usearch } & Usearch;
    return module.default?.Index === undefined ? module : module.default;
  } catch (error) {
    const isThere = !/^(ERR_)?MODULE_NOT_FOUND$/.test(errorCode(error) ?? "");
    const problem = isThere ? `the package ${name} does not load here (${(error as Error).message})` : `the package ${name} is not installed`;
    throw new MissingPackageError(`the approximate index needs it, and ${problem}; run: npm install ${name}, or search exactly (--exact)`, { cause: error });
  }
}

/** An approximate index of vectors, which finds near neighbours without looking at all of them. Keys are the vectors' rows. */
export class ApproximateIndex {
  private constructor(private readonly index: UsearchIndex, readonly dim: number, private readonly facts: Omit<IndexFacts, "file">) {}

  get count(): number {
    return this.facts.count;
  }

  /**
   * Builds the index. Other work gets its turn in between.
   *
   * @param vectors float32 [N, D] on the CPU
   * @param onRows hears how many are in it
   * @throws MissingPackageError
   */
  static async build(vectors: Tensor, onRows: (done: number, total: number) => void = () => {}): Promise<ApproximateIndex> {
    const { Index } = await loadUsearch();
    const [count, dim] = vectors.shape as [number, number];
    const index = new Index({ ...settings, dimensions: dim });
    const data = floats(vectors);
    for (let first = 0; first < count; first += rowsAtOnce) {
      const size = Math.min(rowsAtOnce, count - first);
      index.add(BigUint64Array.from({ length: size }, (_, i) => BigInt(first + i)), data.subarray(first * dim, (first + size) * dim), 0);
      onRows(first + size, count);
      await nextTurn();
    }
    return new ApproximateIndex(index, dim, { format: 1, count, dim, vectors: checksum(data) });
  }

  /**
   * Reads an index that `save` wrote, if it is one of these vectors.
   *
   * @returns null where there is none at `path`, or one of other vectors
   * @throws IndexFileError for a file that is no index, or a damaged one; MissingPackageError
   */
  static async load(path: string, vectors: Tensor): Promise<ApproximateIndex | null> {
    if ((await stat(path).catch(() => null)) === null) return null;
    const facts = await readFacts(path);
    const [count, dim] = vectors.shape as [number, number];
    if (facts.count !== count || facts.dim !== dim || facts.vectors !== checksum(floats(vectors))) return null;
    if ((await fileChecksum(path)) !== facts.file) throw damaged(path, "its bytes are not those that were written");
    const { Index } = await loadUsearch();
    const index = new Index({ ...settings, dimensions: dim });
    try {
      index.load(path);
    } catch (error) {
      throw damaged(path, (error as Error).message, error);
    }
    if (index.size() !== count || index.dimensions() !== dim) throw damaged(path, `it holds ${index.size()} vectors of ${index.dimensions()} values`);
    return new ApproximateIndex(index, dim, facts);
  }

  /** Writes the index to `path`, and whose it is to `path.json`. Whatever stops it, what is there afterwards is whole or is not used. */
  async save(path: string): Promise<void> {
    await putInPlace(path, async (temporary) => {
      this.index.save(temporary);
      const handle = await open(temporary, "r+");
      await handle.sync().finally(() => handle.close());
    }, diskFiles);
    const facts: IndexFacts = { ...this.facts, file: await fileChecksum(path) };
    await writeDurably(factsFile(path), (sink) => sink.write(Buffer.from(`${JSON.stringify(facts)}\n`)));
  }

  /**
   * Rows that are probably the nearest of each query.
   *
   * @param queries [Q, dim] row by row
   * @returns rows [Q][k], the nearest first; fewer where the index has fewer
   */
  search(queries: Float32Array, k: number): Int32Array[] {
    const count = queries.length / this.dim;
    const { keys, counts } = this.index.search(queries, Math.min(k, this.count), 0);
    if (counts === undefined) return [Int32Array.from(keys, Number)]; // of one query the package answers without counts
    const most = Math.min(k, this.count);
    return Array.from({ length: count }, (_, q) => Int32Array.from(keys.subarray(q * most, q * most + Number(counts[q])), Number));
  }
}

/** The vectors' own memory. */
function floats(vectors: Tensor): Float32Array {
  const bytes = vectors.sharedBytes();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function checksum(data: Float32Array): number {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2 ** 28) sum = crc32(bytes.subarray(at, at + 2 ** 28), sum);
  return sum;
}

async function fileChecksum(path: string): Promise<number> {
  let sum = 0;
  for await (const bytes of diskFiles.read(path)) sum = crc32(bytes, sum);
  return sum;
}

const factsFile = (path: string): string => `${path}.json`;

async function readFacts(path: string): Promise<IndexFacts> {
  const remedy = "give another name, or remove the file to have the index built anew";
  try {
    const facts = JSON.parse(await readFile(factsFile(path), "utf8")) as IndexFacts;
    if (facts.format === 1) return facts;
    throw new Error(`its format is ${String(facts.format)}`);
  } catch (error) {
    throw new IndexFileError(`${path} is no index that was written here (${factsFile(path)}: ${(error as Error).message}); ${remedy}`, { cause: error });
  }
}

function damaged(path: string, reason: string, cause?: unknown): IndexFileError {
  return new IndexFileError(`${path} is damaged: ${reason}; remove it to have the index built anew`, { cause });
}
