import { createHash } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { diskFiles } from "../../checkpoint/files/durableFile.js";
import { writeDurably } from "../../checkpoint/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** Rows of features and the class of each, in the order in which they come. */
export interface LabelledRows {
  /** Float32 [n, D]; the receiver disposes of it. */
  features: Tensor;
  labels: readonly number[];
}

export interface FeatureMatrixOptions {
  /** Most rows that will come; what is beyond is left. */
  rows: number;
  /** Length of a feature vector. */
  dim: number;
  /** Where the matrix is kept, if in memory. */
  device: string;
  /** Bytes that may be kept in memory. */
  memory: number;
  /** A safetensors file for what is larger, with `features` float32 [rows, D] and `labels` int64 [rows]; null to keep anything in memory. */
  file: string | null;
  /** What the features depend on: a file that was written for the same key is used as it is. Null: never. */
  key: (() => string) | null;
}

/** Name of the key in the file's metadata. */
const KEY_NAME = "moco_v3_features";
const LENGTH_BYTES = 8;
/** Of the header, so that the matrix behind it is aligned. */
const ALIGNMENT = 64;

/**
 * Features of a data set, with labels: in memory, or in a file that the system pages in as it is read.
 */
export class FeatureMatrix {
  private constructor(
    /** Float32 [N, D], on the device or, where it is in a file, on the CPU. */
    readonly features: Tensor,
    readonly labels: readonly number[],
    /** The file, or null where it is in memory. */
    readonly file: string | null,
    private readonly owner: Tensor,
  ) {}

  get length(): number {
    return this.labels.length;
  }

  /** Gathers rows, or opens the file that was written for the same key. */
  static async collect(make: () => AsyncIterable<LabelledRows>, options: FeatureMatrixOptions): Promise<FeatureMatrix> {
    const { rows, dim, memory, file } = options;
    if (file === null || 4 * rows * dim <= memory) return this.#inMemory(make(), options);
    const key = options.key?.() ?? null;
    const found = key === null ? null : await this.#open(file, key, options);
    if (found !== null) return found;
    await diskFiles.makeFolder(dirname(file));
    await writeRows(file, make(), options, key ?? "");
    return (await this.#open(file, key ?? "", options))!;
  }

  static async #inMemory(batches: AsyncIterable<LabelledRows>, { rows, dim, device }: FeatureMatrixOptions): Promise<FeatureMatrix> {
    const whole = torch.keep(torch.empty([rows, dim], { dtype: "float32", device }));
    try {
      const labels: number[] = [];
      for await (const part of batches) {
        using features = part.features;
        const count = Math.min(part.labels.length, rows - labels.length);
        torch.scope(() => torch.noGrad(() => void whole.narrow(0, labels.length, count).copy_(features.narrow(0, 0, count))));
        labels.push(...part.labels.slice(0, count));
        if (labels.length === rows) break;
      }
      return new FeatureMatrix(torch.keep(whole.narrow(0, 0, labels.length)), labels, null, whole);
    } catch (error) {
      whole.dispose();
      throw error;
    }
  }

  /** Null for a file that is not there, or was written for another key. */
  static async #open(path: string, key: string, { rows, dim }: FeatureMatrixOptions): Promise<FeatureMatrix | null> {
    const header = headerOf(rows, dim, key);
    const size = header.length + rows * dim * 4 + rows * 8;
    if ((await stat(path).catch(() => null))?.size !== size) return null;
    const file = await open(path);
    try {
      const found = Buffer.alloc(header.length);
      await file.read(found, 0, found.length, 0);
      if (!found.equals(header)) return null;
      const bytes = new Uint8Array(rows * 8);
      await file.read(bytes, 0, bytes.length, size - bytes.length);
      const all = Array.from(new BigInt64Array(bytes.buffer), Number);
      // Rows that were left out are at the end.
      const end = all.indexOf(-1);
      const labels = end < 0 ? all : all.slice(0, end);
      const mapped = torch.keep(torch.fromFile(path, false, size, { dtype: "uint8" }));
      const features = torch.scope(() => mapped.narrow(0, header.length, rows * dim * 4).view("float32").view([rows, dim]).narrow(0, 0, labels.length));
      return new FeatureMatrix(torch.keep(features), labels, path, mapped);
    } finally {
      await file.close();
    }
  }

  /** Some rows, in the given order: features float32 [n, D] on `device`. The surrounding scope frees them. */
  rows(indices: readonly number[], device: string): Tensor {
    return torch.scope(() => {
      const index = torch.tensor([...indices], undefined, { dtype: "int64", device: this.features.device });
      return this.features.indexSelect(0, index).to(device);
    });
  }

  dispose(): void {
    this.features.dispose();
    this.owner.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A digest of values and tensors that features depend on. */
export function featureKey(facts: object, names: Iterable<string>, weights: ReadonlyMap<string, Tensor>): string {
  const hash = createHash("sha256").update(JSON.stringify(facts));
  for (const name of names) hash.update(`${name}\0`);
  for (const [key, tensor] of weights) hash.update(key).update(tensor.bytes());
  return hash.digest("hex");
}

function headerOf(rows: number, dim: number, key: string): Buffer {
  const end = rows * dim * 4;
  const text = JSON.stringify({
    __metadata__: { format: "pt", [KEY_NAME]: key },
    features: { dtype: "F32", shape: [rows, dim], data_offsets: [0, end] },
    labels: { dtype: "I64", shape: [rows], data_offsets: [end, end + rows * 8] },
  });
  const header = Buffer.alloc(Math.ceil((LENGTH_BYTES + text.length) / ALIGNMENT) * ALIGNMENT, " ");
  header.writeBigUInt64LE(BigInt(header.length - LENGTH_BYTES), 0);
  header.write(text, LENGTH_BYTES, "latin1");
  return header;
}

async function writeRows(path: string, batches: AsyncIterable<LabelledRows>, { rows, dim }: FeatureMatrixOptions, key: string): Promise<void> {
  await writeDurably(path, async (sink) => {
    await sink.write(headerOf(rows, dim, key));
    const labels = new BigInt64Array(rows).fill(-1n);
    let done = 0;
    for await (const part of batches) {
      using features = part.features;
      const count = Math.min(part.labels.length, rows - done);
      await sink.write(torch.scope(() => features.narrow(0, 0, count).bytes()));
      for (const label of part.labels.slice(0, count)) labels[done++] = BigInt(label);
      if (done === rows) break;
    }
    const blank = new Uint8Array(dim * 4);
    for (let row = done; row < rows; row++) await sink.write(blank);
    await sink.write(new Uint8Array(labels.buffer));
  });
}
