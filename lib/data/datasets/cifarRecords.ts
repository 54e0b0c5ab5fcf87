import { open, readFile, stat } from "node:fs/promises";
import { CheckpointError } from "../../checkpoint/error.js";
import { defaultLimits, MemoryBudget } from "../../checkpoint/limits.js";
import { lookUpGlobal } from "../../checkpoint/pickle/allowedGlobals.js";
import { NumpyArray } from "../../checkpoint/pickle/numpyObjects.js";
import { describe, PickleDict } from "../../checkpoint/pickle/pickleObjects.js";
import { readPickle } from "../../checkpoint/pickle/pickleReader.js";
import { TensorReference } from "../../checkpoint/references.js";
import { cifarBytes, type CifarLayout } from "./cifarLayout.js";
import { DatasetError } from "./datasetError.js";

/** Images and labels of one file. */
export interface CifarRecords {
  /** Interleaved RGB, one image after another. */
  pixels: Uint8Array;
  labels: Uint8Array;
}

const planeBytes = cifarBytes / 3;
/** Records read at a time: 3 MB. */
const recordsAtOnce = 1000;
/** More than CIFAR-100's training images take however they are pickled. */
const mostPickleBytes = 512 * 2 ** 20;

/**
 * Copies one image whose bytes lie `step` apart, planar red, green and blue, to interleaved RGB.
 *
 * @param start of the image in `source`
 * @param to where it goes in `target`
 */
function interleave(source: Uint8Array, start: number, step: number, target: Uint8Array, to: number): void {
  const plane = planeBytes * step;
  for (let pixel = 0; pixel < planeBytes; pixel++, start += step, to += 3) {
    target[to] = source[start]!;
    target[to + 1] = source[start + plane]!;
    target[to + 2] = source[start + 2 * plane]!;
  }
}

async function sizeOf(file: string, layout: CifarLayout): Promise<number> {
  const about = await stat(file).catch((error: NodeJS.ErrnoException) => {
    const what = error.code === "ENOENT" ? `${file} is missing` : `cannot read ${file}: ${error.message}`;
    throw new DatasetError(`${what}; unpack ${layout.archive} again`, { cause: error });
  });
  if (!about.isFile()) throw new DatasetError(`${file} is not a regular file; unpack ${layout.archive} again`);
  return about.size;
}

function wrongLabel(file: string, image: number, label: unknown, count: number, layout: CifarLayout): DatasetError {
  return new DatasetError(`${file}: image ${image} has label ${String(label)}, not 0 to ${count - 1}; unpack ${layout.archive} again`);
}

/**
 * Reads a file of the binary version: for each image one byte of label (CIFAR-100: two, of which the second counts) and 3072 of pixels.
 *
 * @param images how many there must be, or null for any number
 * @throws {DatasetError} when the file is missing, has another size, or a label outside its range.
 */
export async function readBinaryFile(file: string, layout: CifarLayout, images: number | null): Promise<CifarRecords> {
  const labelBytes = layout.superclasses > 0 ? 2 : 1;
  const recordBytes = labelBytes + cifarBytes;
  const size = await sizeOf(file, layout);
  if (images !== null ? size !== images * recordBytes : size === 0 || size % recordBytes !== 0) {
    const expected = images !== null
      ? `${images * recordBytes} are expected (${images} images of ${recordBytes})`
      : `a multiple of ${recordBytes} is expected`;
    throw new DatasetError(`${file} has ${size} bytes where ${expected}; it is cut short or another file: unpack ${layout.archive} again`);
  }
  const count = size / recordBytes;
  const pixels = new Uint8Array(count * cifarBytes);
  const labels = new Uint8Array(count);
  const records = Buffer.allocUnsafeSlow(Math.min(count, recordsAtOnce) * recordBytes);
  const handle = await open(file);
  try {
    for (let first = 0; first < count; first += recordsAtOnce) {
      const wanted = Math.min(recordsAtOnce, count - first) * recordBytes;
      for (let filled = 0; filled < wanted;) {
        const { bytesRead } = await handle.read(records, filled, wanted - filled, first * recordBytes + filled);
        if (bytesRead === 0) throw new DatasetError(`${file} became shorter while it was read; unpack ${layout.archive} again`);
        filled += bytesRead;
      }
      for (let at = 0, image = first; at < wanted; at += recordBytes, image++) {
        const label = records[at + labelBytes - 1]!;
        if (label >= layout.classes) throw wrongLabel(file, image, label, layout.classes, layout);
        if (labelBytes === 2 && records[at]! >= layout.superclasses) {
          throw wrongLabel(file, image, `${records[at]!} of a superclass`, layout.superclasses, layout);
        }
        labels[image] = label;
        interleave(records, at + labelBytes, 1, pixels, image * cifarBytes);
      }
    }
  } finally {
    await handle.close();
  }
  return { pixels, labels };
}

/**
 * Reads a file of the Python version: a pickled dict with `data`, an array [N, 3072] of bytes, and a list of labels. Nothing in it is run.
 *
 * @param images how many there must be, or null for any number
 * @throws {DatasetError} when the file is missing, is no such pickle, holds another number of images, or a label outside its range.
 */
export async function readPickledFile(file: string, layout: CifarLayout, images: number | null): Promise<CifarRecords> {
  const dict = await unpickle(file, layout);
  const data = dict.get("data");
  const array = data instanceof NumpyArray ? data.tensor : data;
  const damaged = (what: string): DatasetError => new DatasetError(`${file}: ${what}; unpack ${layout.archive} again`);
  if (!(array instanceof TensorReference) || array.dtype !== "uint8" || array.storage.inline === null) {
    throw damaged(`"data" is ${describe(data)}, not an array of bytes`);
  }
  const [count = 0, width = 0] = array.size;
  if (array.size.length !== 2 || width !== cifarBytes || (images === null ? count === 0 : count !== images)) {
    throw damaged(`"data" is ${array.size.join(" x ")} bytes where ${images ?? "N"} x ${cifarBytes} are expected`);
  }
  const given = dict.get(layout.labelsKey);
  if (!Array.isArray(given) || given.length !== count) {
    throw damaged(`"${layout.labelsKey}" is ${describe(given)} where a list of ${count} numbers is expected`);
  }
  const wrong = given.findIndex((label) => !(Number.isInteger(label) && label >= 0 && label < layout.classes));
  if (wrong >= 0) {
    const label: unknown = given[wrong];
    throw wrongLabel(file, wrong, typeof label === "number" ? label : describe(label), layout.classes, layout);
  }
  const pixels = new Uint8Array(count * cifarBytes);
  const [rowStep = 0, step = 0] = array.stride;
  for (let image = 0; image < count; image++) {
    interleave(array.storage.inline, array.offset + image * rowStep, step, pixels, image * cifarBytes);
  }
  return { pixels, labels: Uint8Array.from(given as number[]) };
}

/** The names of the classes, in order. */
export async function readClassNames(file: string, layout: CifarLayout): Promise<string[]> {
  let names: unknown;
  if (layout.format === "pickle") {
    names = (await unpickle(file, layout)).get(layout.namesKey);
  } else {
    await sizeOf(file, layout);
    names = (await readFile(file, "utf8")).split(/\r?\n/).filter((line) => line.trim() !== "");
  }
  if (!Array.isArray(names) || names.length !== layout.classes || !names.every((name) => typeof name === "string")) {
    throw new DatasetError(`${file} does not hold the names of ${layout.classes} classes; unpack ${layout.archive} again`);
  }
  return names as string[];
}

async function unpickle(file: string, layout: CifarLayout): Promise<ReadonlyMap<unknown, unknown>> {
  const size = await sizeOf(file, layout);
  if (size > mostPickleBytes) {
    throw new DatasetError(`${file} has ${size} bytes, more than any file of CIFAR; unpack ${layout.archive} again`);
  }
  const bytes = await readFile(file);
  try {
    const { value } = readPickle(bytes, 0, {
      site: { file }, lookup: lookUpGlobal, unknownGlobals: "error",
      limits: { ...defaultLimits, stringBytes: mostPickleBytes },
      // The reader counts the bytes of an array up to four times, as file, text, bytes and tensor.
      budget: new MemoryBudget(2 * size),
      persistentLoad: (_id, context) => context.fail("it refers to something outside itself"),
    });
    if (value instanceof PickleDict) return value.entries;
    throw new DatasetError(`${file} holds ${describe(value)}, not a dict; unpack ${layout.archive} again`);
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    const binary = layout.title === "CIFAR-10" ? "cifar-10-binary.tar.gz" : "cifar-100-binary.tar.gz";
    throw new DatasetError(`${error.message}; unpack ${layout.archive} again, or use the binary version (${binary})`, { cause: error });
  }
}
