/**
 * Reads the golden data under `test/fixtures`: JSON, `.npy` arrays and `.npz` archives.
 *
 * It stands apart from `lib` on purpose: a test must not read its expected values with the code it tests.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { inflateRawSync } from "node:zlib";

/** Element types that numpy's `descr` names; `float16` arrays come as their raw bits. */
export type NpyDType =
  | "float64" | "float32" | "float16" | "int64" | "int32" | "int16" | "int8" | "uint64" | "uint32" | "uint16" | "uint8" | "bool"
  | "complex64" | "complex128";

export type NpyData =
  | Float64Array | Float32Array | BigInt64Array | BigUint64Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array
  | Uint8Array;

/** One array in C order. Complex data is interleaved (re, im), bool is one byte each, float16 is a Uint16Array of bits. */
export interface NpyArray<D extends NpyData = NpyData> {
  shape: number[];
  dtype: NpyDType;
  data: D;
}

interface Layout {
  dtype: NpyDType;
  itemSize: number;
  view: (buffer: ArrayBuffer) => NpyData;
}

const layouts: Record<string, Layout> = {
  f8: { dtype: "float64", itemSize: 8, view: (b) => new Float64Array(b) },
  f4: { dtype: "float32", itemSize: 4, view: (b) => new Float32Array(b) },
  f2: { dtype: "float16", itemSize: 2, view: (b) => new Uint16Array(b) },
  i8: { dtype: "int64", itemSize: 8, view: (b) => new BigInt64Array(b) },
  i4: { dtype: "int32", itemSize: 4, view: (b) => new Int32Array(b) },
  i2: { dtype: "int16", itemSize: 2, view: (b) => new Int16Array(b) },
  i1: { dtype: "int8", itemSize: 1, view: (b) => new Int8Array(b) },
  u8: { dtype: "uint64", itemSize: 8, view: (b) => new BigUint64Array(b) },
  u4: { dtype: "uint32", itemSize: 4, view: (b) => new Uint32Array(b) },
  u2: { dtype: "uint16", itemSize: 2, view: (b) => new Uint16Array(b) },
  u1: { dtype: "uint8", itemSize: 1, view: (b) => new Uint8Array(b) },
  b1: { dtype: "bool", itemSize: 1, view: (b) => new Uint8Array(b) },
  c8: { dtype: "complex64", itemSize: 8, view: (b) => new Float32Array(b) },
  c16: { dtype: "complex128", itemSize: 16, view: (b) => new Float64Array(b) },
};

/** Absolute path of a file under `test/fixtures`, from the compiled tests' place (`dist/test/support`). */
export function fixturePath(rel: string): string {
  return fileURLToPath(new URL(`../../../test/fixtures/${rel}`, import.meta.url));
}

/** Parses a JSON fixture. */
export function readJson<T = any>(rel: string): T { // eslint-disable-line @typescript-eslint/no-explicit-any
  return JSON.parse(readFileSync(fixturePath(rel), "utf8")) as T;
}

/** Reads one `.npy` file (versions 1 and 2, C order, little-endian). `D` is the caller's word for the element type. */
export function readNpy<D extends NpyData = NpyData>(rel: string): NpyArray<D> {
  return parseNpy(readFileSync(fixturePath(rel)), rel) as NpyArray<D>;
}

/** Reads every array of an `.npz` file; keys are the entries' names without `.npy`, in the file's order. */
export function readNpz<D extends NpyData = NpyData>(rel: string): Map<string, NpyArray<D>> {
  const file = readFileSync(fixturePath(rel));
  const arrays = new Map<string, NpyArray<D>>();
  const end = file.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  if (end < 0) throw new Error(`${rel}: not a zip file`);
  const count = file.readUInt16LE(end + 10);
  let at = file.readUInt32LE(end + 16);
  for (let i = 0; i < count; i++) {
    const method = file.readUInt16LE(at + 10);
    const packedSize = file.readUInt32LE(at + 20);
    const nameLength = file.readUInt16LE(at + 28);
    const extraLength = file.readUInt16LE(at + 30);
    const commentLength = file.readUInt16LE(at + 32);
    const local = file.readUInt32LE(at + 42);
    const name = file.toString("utf8", at + 46, at + 46 + nameLength);
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
    const packed = file.subarray(start, start + packedSize);
    if (method !== 0 && method !== 8) throw new Error(`${rel}: ${name} uses zip method ${method}`);
    const bytes = method === 8 ? inflateRawSync(packed) : packed;
    arrays.set(name.replace(/\.npy$/, ""), parseNpy(bytes, `${rel}:${name}`) as NpyArray<D>);
    at += 46 + nameLength + extraLength + commentLength;
  }
  return arrays;
}

function parseNpy(bytes: Buffer, what: string): NpyArray {
  if (bytes.toString("latin1", 0, 6) !== "\x93NUMPY") throw new Error(`${what}: not an .npy array`);
  const wide = bytes[6] >= 2;
  const headerLength = wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  const headerStart = wide ? 12 : 10;
  const header = bytes.toString("latin1", headerStart, headerStart + headerLength);
  const descr = /'descr':\s*'([<>|=])([a-z]\d+)'/.exec(header);
  const layout = descr && descr[1] !== ">" ? layouts[descr[2]] : undefined;
  const shapeText = /'shape':\s*\(([^)]*)\)/.exec(header);
  if (!layout || !shapeText || /'fortran_order':\s*True/.test(header)) throw new Error(`${what}: cannot read ${header.trim()}`);
  const shape = shapeText[1].split(",").map((s) => s.trim()).filter((s) => s !== "").map(Number);
  const byteLength = shape.reduce((product, size) => product * size, 1) * layout.itemSize;
  const start = headerStart + headerLength;
  if (bytes.length < start + byteLength) throw new Error(`${what}: ${bytes.length - start} bytes of data, ${byteLength} expected`);
  // A copy, so that the typed array is aligned and owns its memory.
  const memory = new Uint8Array(byteLength);
  memory.set(bytes.subarray(start, start + byteLength));
  return { shape, dtype: layout.dtype, data: layout.view(memory.buffer) };
}
