import { native } from "../native.js";
import {
  dtypeCode, dtypeOfTypedArray, dtypes, float32ToBFloat16, float32ToFloat16, type DType, type TypedArray,
} from "./dtype.js";
import { Tensor } from "./tensor.js";

/** Numbers, booleans or BigInts in arrays nested as deep as the tensor has dimensions. */
export type TensorData = number | bigint | boolean | readonly TensorData[];

/** Element type, device and gradient of a new tensor. */
export interface TensorOptions {
  dtype?: DType;
  device?: string;
  requiresGrad?: boolean;
}

/**
 * A tensor with a copy of `data`.
 *
 * Without `dtype`: float32 for numbers, bool for booleans, int64 for BigInts, and a typed array's own type. A typed array or a flat array may
 * come with a `shape`; nested arrays have one already.
 *
 * @throws TypeError for ragged or mixed arrays, numbers that an integer dtype cannot hold, or a shape of another size.
 * @example torch.tensor([[1, 2], [3, 4]]); torch.tensor(new Float32Array(6), [2, 3]); torch.tensor([1, 2], undefined, { dtype: "int64" })
 */
export function tensor(data: TensorData | TypedArray, shape?: readonly number[], options: TensorOptions = {}): Tensor {
  if (shape && !Array.isArray(shape)) return tensor(data, undefined, shape as unknown as TensorOptions);
  const { device = "cpu", requiresGrad = false } = options;
  if (options.dtype) dtypeCode(options.dtype); // an unknown name is an error here
  let made: Tensor;
  if (ArrayBuffer.isView(data)) {
    const source = dtypeOfTypedArray(data);
    const dtype = options.dtype ?? source;
    made = fromBytes(bytesOf(data), checkedShape(shape ?? [data.length], data.length), source);
    made = replaced(made, made.to(dtype));
  } else {
    const flat: (number | bigint | boolean)[] = [];
    const nested = flatten(data as TensorData, flat);
    const dtype = options.dtype ?? defaultDtype(flat);
    made = fromBytes(encodeElements(flat, dtype), checkedShape(shape ?? nested, flat.length), dtype);
  }
  made = replaced(made, made.to(device));
  return requiresGrad ? made.requiresGrad_() : made;
}

/**
 * A tensor on the typed array's own memory, without a copy: writing to one changes the other. The array must not be transferred or resized
 * while the tensor lives.
 *
 * @throws TypeError when the shape has another number of elements.
 */
export function fromTypedArray(array: TypedArray, shape: readonly number[] = [array.length]): Tensor {
  const dtype = dtypeOfTypedArray(array);
  return new Tensor(native.share(array, checkedShape(shape, array.length), dtypeCode(dtype)));
}

/**
 * A tensor with a copy of raw little-endian bytes in C order.
 *
 * @throws TypeError when the number of bytes is not what shape and dtype need.
 */
export function fromBytes(bytes: Uint8Array, shape: readonly number[], dtype: DType): Tensor {
  const needed = shape.reduce((product, size) => product * size, dtypes[dtype].itemSize);
  if (bytes.length !== needed) {
    throw new TypeError(`fromBytes: a ${dtype} tensor of shape [${shape.join(", ")}] has ${needed} bytes, got ${bytes.length}`);
  }
  return new Tensor(native.fromBytes(bytes, [...shape], dtypeCode(dtype)));
}

function bytesOf(array: TypedArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Disposes of `old` when an operator gave another tensor. */
function replaced(old: Tensor, made: Tensor): Tensor {
  if (made !== old) old.dispose();
  return made;
}

function checkedShape(shape: readonly number[], elements: number): number[] {
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) throw new TypeError(`a shape holds whole numbers from 0, got [${shape.join(", ")}]`);
  }
  const needed = shape.reduce((product, size) => product * size, 1);
  if (needed !== elements) {
    throw new TypeError(`shape [${shape.join(", ")}] has ${needed} elements, the data ${elements}; give a shape of that size`);
  }
  return [...shape];
}

function flatten(data: TensorData, into: (number | bigint | boolean)[]): number[] {
  if (!Array.isArray(data)) {
    if (typeof data !== "number" && typeof data !== "boolean" && typeof data !== "bigint") {
      throw new TypeError(`tensor: elements are numbers, BigInts or booleans, got ${data === null ? "null" : typeof data}`);
    }
    into.push(data);
    return [];
  }
  let inner: number[] | undefined;
  for (const row of data as readonly TensorData[]) {
    const shape = flatten(row, into);
    inner ??= shape;
    if (shape.length !== inner.length || shape.some((size, i) => size !== inner?.[i])) {
      throw new TypeError(`tensor: rows have different shapes, [${inner.join(", ")}] and [${shape.join(", ")}]; make them equally long`);
    }
  }
  return [data.length, ...(inner ?? [])];
}

function defaultDtype(flat: readonly unknown[]): DType {
  if (flat.length > 0 && flat.every((value) => typeof value === "boolean")) return "bool";
  return flat.length > 0 && flat.every((value) => typeof value === "bigint") ? "int64" : "float32";
}

function encodeElements(flat: readonly (number | bigint | boolean)[], dtype: DType): Uint8Array {
  const { typedArray, kind } = dtypes[dtype];
  if (kind === "complex") throw new TypeError(`tensor: make ${dtype} from pairs: torch.viewAsComplex(torch.tensor([[re, im], ...]))`);
  if (dtype === "bool") return Uint8Array.from(flat, (value) => (value ? 1 : 0));
  if (kind === "float") {
    const values = flat.map(Number);
    if (dtype === "float64") return bytesOf(Float64Array.from(values));
    const floats = Float32Array.from(values);
    if (dtype === "float32") return bytesOf(floats);
    if (dtype === "float16") return bytesOf(float32ToFloat16(floats));
    if (dtype === "bfloat16") return bytesOf(float32ToBFloat16(floats));
    throw new TypeError(`tensor: make ${dtype} through float32: torch.tensor(data).to("${dtype}")`);
  }
  const array = new (typedArray as NonNullable<typeof typedArray>)(flat.length);
  const isBig = array instanceof BigInt64Array || array instanceof BigUint64Array;
  for (const [i, value] of flat.entries()) {
    if (typeof value === "number" && !Number.isSafeInteger(value)) {
      throw new TypeError(`tensor: ${value} is not a whole number that ${dtype} can hold exactly; round it, or use a BigInt for large values`);
    }
    if (isBig) array[i] = BigInt(value);
    else (array as Int32Array)[i] = Number(value);
    // eslint-disable-next-line eqeqeq -- a bigint equals the number that it was made from
    if (array[i] != value) throw new TypeError(`tensor: ${value} is outside the range of ${dtype}; choose a wider dtype such as int64`);
  }
  return bytesOf(array);
}

/** Gives `target` the data, dtype, shape and device of `source` while it stays the same tensor (PyTorch's `x.data = y`). Its gradient must be unset or fit. */
export function setData(target: Tensor, source: Tensor): Tensor {
  native.setData(target.liveSlot("setData"), source.liveSlot("setData"));
  return target;
}

/**
 * Where a tensor's elements lie: tensors with the same `id` share a storage of `bytes` bytes; `offset` is in elements. The id is valid while
 * the storage lives.
 */
export function storageOf(tensor: Tensor): { id: bigint; bytes: number; offset: number } {
  return native.storage(tensor.liveSlot("storageOf"));
}
