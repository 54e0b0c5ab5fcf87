import { open, type FileHandle } from "node:fs/promises";
import { writeDurably } from "../../checkpoint/index.js";
import { sharedParts } from "../../checkpoint/tensorStorage.js";
import { TextLineError, textLines } from "../../data/list/textLines.js";
import * as torch from "../../torch/index.js";
import type { DType, Tensor } from "../../torch/index.js";
import {
  checkedEmbeddings, EmbeddingFileError, jsonLine, requireDimensions, type EmbeddingRows, type Embeddings,
} from "./embeddings.js";

const MAGIC = "\x93NUMPY";
/** The data of a file begin at a multiple of this, as numpy's do. */
const ALIGNMENT = 64;
/** Longest header that is read, in bytes; one of two dimensions has 128. */
const LONGEST_HEADER = 65_536;
/** Element types that are read, by numpy's names. */
const dtypes: Readonly<Record<string, { dtype: DType; bytes: number }>> = {
  "<f4": { dtype: "float32", bytes: 4 }, "<f8": { dtype: "float64", bytes: 8 }, "<f2": { dtype: "float16", bytes: 2 },
};

/** The file beside `features.npy` that holds the rows' names, one JSON string a line: `features.names.jsonl`. */
export function namesFile(path: string): string {
  return path.replace(/\.npy$/i, "") + ".names.jsonl";
}

/** Writes a float32 array [N, D] as `numpy.save` does, and the names beside it; the array comes last, so where it is, all is there. */
export async function writeNpy(path: string, rows: EmbeddingRows): Promise<void> {
  await writeDurably(namesFile(path), async (sink) => {
    for await (const { names } of rows.chunks()) await sink.write(Buffer.from(names.map((name) => `${jsonLine(name)}\n`).join(""), "utf8"));
  });
  await writeDurably(path, async (sink) => {
    await sink.write(headerOf(rows.count, rows.dim));
    for await (const { features } of rows.chunks()) {
      await sink.write(new Uint8Array(features.buffer, features.byteOffset, features.byteLength));
    }
  });
}

function headerOf(count: number, dim: number): Buffer {
  const prefix = MAGIC.length + 4;
  const fields = `{'descr': '<f4', 'fortran_order': False, 'shape': (${count}, ${dim}), }`;
  const length = Math.ceil((prefix + fields.length + 1) / ALIGNMENT) * ALIGNMENT - prefix;
  const header = Buffer.alloc(prefix + length, " ");
  header.write(`${MAGIC}\x01\x00`, "latin1");
  header.writeUInt16LE(length, MAGIC.length + 2);
  header.write(fields, prefix, "latin1");
  header.write("\n", prefix + length - 1, "latin1");
  return header;
}

/** Reads a float array [N, D] that numpy wrote, and the names beside it. */
export async function readNpy(path: string): Promise<Embeddings> {
  const file = await open(path, "r");
  let features: Tensor;
  try {
    features = await readArray(path, file);
  } finally {
    await file.close();
  }
  let names: string[];
  try {
    names = await readNames(path, features.size(0));
  } catch (error) {
    features.dispose();
    throw error;
  }
  return checkedEmbeddings(path, names, features);
}

async function readArray(path: string, file: FileHandle): Promise<Tensor> {
  const { size } = await file.stat();
  const prefix = Buffer.alloc(12);
  if (size < prefix.length) throw new EmbeddingFileError(path, "it is no .npy file; write it with numpy.save or moco embed");
  await readFully(path, file, prefix, 0);
  const major = prefix[6]!;
  if (prefix.toString("latin1", 0, 6) !== MAGIC || major < 1 || major > 3) {
    throw new EmbeddingFileError(path, "it is no .npy file; write it with numpy.save or moco embed");
  }
  const headerAt = major === 1 ? 10 : 12;
  const headerBytes = major === 1 ? prefix.readUInt16LE(8) : prefix.readUInt32LE(8);
  if (headerBytes > LONGEST_HEADER || headerAt + headerBytes > size) {
    throw new EmbeddingFileError(path, `its header claims ${headerBytes} bytes; the file is damaged`);
  }
  const header = Buffer.alloc(headerBytes);
  await readFully(path, file, header, headerAt);
  const { dtype, bytes, count, dim } = parseHeader(path, header.toString("latin1"));
  const start = headerAt + headerBytes;
  if (count * dim * bytes !== size - start) {
    throw new EmbeddingFileError(
      path, `its array [${count}, ${dim}] takes ${count * dim * bytes} bytes and ${size - start} follow the header; the file is cut short or damaged`,
    );
  }
  const stored = torch.keep(torch.empty([count, dim], { dtype }));
  try {
    let at = start;
    for (const part of torch.scope(() => sharedParts(stored.view([-1]), bytes))) {
      await readFully(path, file, part, at);
      at += part.byteLength;
    }
  } catch (error) {
    stored.dispose();
    throw error;
  }
  if (dtype === "float32") return stored;
  const features = torch.keep(stored.to("float32"));
  stored.dispose();
  return features;
}

function parseHeader(path: string, header: string): { dtype: DType; bytes: number; count: number; dim: number } {
  const descr = /'descr':\s*'([^']{1,40})'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([\d,\sL]{0,200})\)/.exec(header)?.[1]?.split(",").map((size) => size.trim()).filter((size) => size !== "");
  if (descr === undefined || shape === undefined) throw new EmbeddingFileError(path, "its header tells no descr and shape; the file is damaged");
  const type = dtypes[descr];
  if (type === undefined) {
    throw new EmbeddingFileError(path, `its elements are ${JSON.stringify(descr)}; embeddings are float32: numpy.save(file, array.astype("<f4"))`);
  }
  if (/'fortran_order':\s*True/.test(header)) {
    throw new EmbeddingFileError(path, "its array is in Fortran's order; save numpy.ascontiguousarray(array)");
  }
  const [count, dim] = shape.map(Number) as [number, number];
  if (shape.length !== 2 || !Number.isSafeInteger(count)) {
    throw new EmbeddingFileError(path, `its array has the shape (${shape.join(", ")}); embeddings have two dimensions, one row for each image`);
  }
  requireDimensions(path, dim);
  return { ...type, count, dim };
}

async function readNames(path: string, count: number): Promise<string[]> {
  const beside = namesFile(path);
  const names: string[] = [];
  try {
    for await (const lines of textLines(beside)) {
      for (const line of lines) {
        const name: unknown = parsed(line);
        if (typeof name !== "string") {
          throw new EmbeddingFileError(beside, `line ${names.length + 1} is no JSON string; the file has one for each row of ${path}`);
        }
        if (names.push(name) > count) break;
      }
      if (names.length > count) break;
    }
  } catch (error) {
    if (error instanceof TextLineError) throw new EmbeddingFileError(beside, `line ${error.line} ${error.message}`, { cause: error });
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new EmbeddingFileError(
      path, `the names of its rows are missing: there is no ${beside}; keep it beside the array, or write it: one JSON string a line, one for each row`,
      { cause: error },
    );
  }
  if (names.length === count) return names;
  const found = names.length > count ? "more" : `${names.length}`;
  throw new EmbeddingFileError(path, `it has ${count} rows and ${beside} ${found} names; the two belong to different runs: embed again`);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

async function readFully(path: string, file: FileHandle, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.byteLength;) {
    const { bytesRead } = await file.read(target, done, target.byteLength - done, position + done);
    if (bytesRead === 0) throw new EmbeddingFileError(path, `it ends at byte ${position + done}; it is cut short`);
    done += bytesRead;
  }
}
