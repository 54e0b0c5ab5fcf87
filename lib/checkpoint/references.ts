import { dtypes, type DType } from "../torch/dtype.js";
import { describe } from "./pickle/pickleObjects.js";

/**
 * A tensor's memory as a checkpoint names it. Where the bytes lie is known only once the pickle has been read: in a zip entry,
 * behind the pickles of a legacy file, or (`inline`) in the pickle itself, as numpy arrays have them.
 */
export class StorageReference {
  constructor(
    /** The checkpoint's own name for the storage. */
    readonly key: string,
    /** Device tag such as "cpu" or "cuda:0"; informative only, since everything is read into CPU memory. */
    readonly location: string,
    readonly byteLength: number,
    readonly inline: Uint8Array | null = null,
  ) {}
}

/** A storage as a persistent id gives it: the memory, the element type (null: untyped), and where a view of it starts. */
export class TypedStorage {
  constructor(readonly storage: StorageReference, readonly dtype: DType | null, readonly byteOffset = 0) {}

  /** The whole storage as a tensor of one dimension, for the rare file that saves a bare storage. */
  asTensor(): TensorReference {
    const dtype = this.dtype ?? "uint8";
    const { itemSize } = dtypes[dtype];
    const length = Math.floor((this.storage.byteLength - this.byteOffset) / itemSize);
    return new TensorReference(this.storage, dtype, Math.floor(this.byteOffset / itemSize), [length], [1], false);
  }
}

/** A dense tensor as a checkpoint describes it, checked to stay inside its storage. Sizes, strides and offset are in elements. */
export class TensorReference {
  constructor(
    readonly storage: StorageReference,
    readonly dtype: DType,
    readonly offset: number,
    readonly size: readonly number[],
    readonly stride: readonly number[],
    readonly requiresGrad: boolean,
    /** Saved as `torch.nn.Parameter`. */
    readonly isParameter = false,
  ) {}

  asParameter(requiresGrad: boolean): TensorReference {
    return new TensorReference(this.storage, this.dtype, this.offset, this.size, this.stride, requiresGrad, true);
  }
}

/** Row-major strides of a shape, with PyTorch's convention for dimensions of size 0 (counted as 1). */
export function contiguousStrides(size: readonly number[]): number[] {
  const strides = new Array<number>(size.length);
  let step = 1;
  for (let i = size.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(1, size[i] as number);
  }
  return strides;
}

/**
 * Why a tensor of this geometry may not be built, or null when it may. All arithmetic is on integers below 2^53, so nothing wraps.
 *
 * @param storageBytes - length of the storage; the last element must lie inside
 * @param expandedBytes - limit for tensors that repeat their storage
 */
export function geometryFault(
  dtype: DType, offset: number, size: readonly number[], stride: readonly number[], storageBytes: number, expandedBytes: number,
): string | null {
  const { itemSize } = dtypes[dtype];
  if (size.length !== stride.length) return `a tensor has ${size.length} sizes but ${stride.length} strides`;
  for (const value of [offset, ...size, ...stride]) {
    // Whatever a pickle can make may stand here: turning a nested list into text could take for ever.
    if (typeof value !== "number") return `a tensor's geometry has ${describe(value)}; expected an integer from 0`;
    if (!Number.isSafeInteger(value) || value < 0) return `a tensor's geometry has ${value}; expected an integer from 0`;
  }
  const shown = (): string => `size [${size.join(", ")}], stride [${stride.join(", ")}], offset ${offset}`;
  const elements = Math.floor(storageBytes / itemSize);
  let count = 1;
  let atLeastOneEach = 1;
  let last = offset;
  for (let i = 0; i < size.length; i++) {
    const extent = size[i] as number;
    count *= extent;
    atLeastOneEach *= Math.max(1, extent);
    last += Math.max(0, extent - 1) * (stride[i] as number);
    if (!Number.isSafeInteger(atLeastOneEach) || !Number.isSafeInteger(last)) return `a tensor's geometry overflows (${shown()})`;
  }
  const end = count === 0 ? offset : last + 1;
  if (end > elements) {
    return `a tensor reaches element ${end - 1} of a storage that holds ${elements} (${dtype}, ${shown()})`;
  }
  const bytes = count * itemSize;
  if (bytes > storageBytes && bytes > expandedBytes) {
    return `a tensor repeats its storage of ${storageBytes} bytes to ${bytes}; the limit is ${expandedBytes} (${shown()})`;
  }
  return null;
}
