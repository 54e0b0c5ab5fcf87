import { native } from "../native.js";
import { bind } from "./dispatch.js";
import { bfloat16ToFloat32, dtypeFromCode, dtypes, float16ToFloat32, isDType, type DType, type TypedArray } from "./dtype.js";
import { DisposedTensorError } from "./errors.js";
import { methodNames, type TensorMethods } from "./methods.generated.js";
import { camelCase } from "./schema.js";
import { formatTensor, printEdge } from "./print.js";
import { release, scope, track, type Scope } from "./scope.js";
import type { Stream } from "./stream.js";

/** Nested arrays of a tensor's elements, as `Tensor.toArray` gives them. */
export type NestedArray = number | bigint | boolean | NestedArray[];

// Operators as methods are merged in at the end of this file.
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export interface Tensor extends TensorMethods {}

/**
 * A tensor of libtorch. The object holds a slot of the addon's table; the memory is freed by `dispose()` or by the end of the scope that the
 * tensor was made in (see `scope`), not by garbage collection.
 */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export class Tensor {
  /** Slot in the addon's table; -1 once disposed of. Internal. */
  slot: number;
  /** The scope that frees this tensor, or null when nothing does. Internal. */
  owner: Scope | null;
  /** The handle that `grad` has given out, or null. Internal. */
  gradHandle: Tensor | null;

  /** Wraps a slot that the addon returned. Internal: make tensors with `tensor()` and the operators. */
  constructor(slot: number) {
    // Made a thousand times a step: plain fields in one order are what engines make fast objects of.
    this.slot = slot;
    this.owner = null;
    this.gradHandle = null;
    track(this);
  }

  /** The slot, or an error that names the operator when the tensor is gone. Internal. */
  liveSlot(operator: string): number {
    if (this.slot < 0) throw new DisposedTensorError(operator);
    return this.slot;
  }

  /** A new object for what this one holds, which is as if disposed of afterwards. Internal. */
  moveHandle(): Tensor {
    const moved = new Tensor(this.liveSlot("moveHandle"));
    this.slot = -1;
    moved.gradHandle = this.gradHandle;
    this.gradHandle = null;
    return moved;
  }

  get shape(): number[] {
    return native.shape(this.liveSlot("shape"));
  }

  /** Steps between neighbours along each dimension, in elements. */
  get strides(): number[] {
    return native.strides(this.liveSlot("strides"));
  }

  get dtype(): DType {
    return dtypeFromCode(native.dtype(this.liveSlot("dtype")));
  }

  /** `"cpu"`, `"cuda:0"`, ... */
  get device(): string {
    return native.device(this.liveSlot("device"));
  }

  get ndim(): number {
    return this.shape.length;
  }

  get disposed(): boolean {
    return this.slot < 0;
  }

  get requiresGrad(): boolean {
    return native.requiresGrad(this.liveSlot("requiresGrad"));
  }

  get isLeaf(): boolean {
    return native.isLeaf(this.liveSlot("isLeaf"));
  }

  /** Name of the autograd function that made this tensor, or null. */
  get gradFn(): string | null {
    return native.gradFn(this.liveSlot("gradFn"));
  }

  /** The accumulated gradient, or null. The handle belongs to this tensor: it is freed with it, or when the gradient is set to null. */
  get grad(): Tensor | null {
    const known = this.gradHandle?.slot ?? -1;
    const slot = native.gradOf(this.liveSlot("grad"), known);
    if (slot === known && slot >= 0) return this.gradHandle;
    if (this.gradHandle) release([this.gradHandle]);
    this.gradHandle = slot < 0 ? null : new Tensor(slot);
    if (this.gradHandle) this.gradHandle.owner = null;
    return this.gradHandle;
  }

  set grad(gradient: Tensor | null) {
    native.setGrad(this.liveSlot("grad"), gradient === null ? -1 : gradient.liveSlot("grad"));
    if (this.gradHandle && this.gradHandle !== gradient) release([this.gradHandle]);
    this.gradHandle = null;
  }

  numel(): number {
    return native.numel(this.liveSlot("numel"));
  }

  /** Length of a dimension (negative counts from the end), or the whole shape. */
  size(): number[];
  size(dim: number): number;
  size(dim?: number): number | number[] {
    const shape = this.shape;
    if (dim === undefined) return shape;
    const length = shape[dim < 0 ? dim + shape.length : dim];
    if (length === undefined) throw new RangeError(`size: dimension ${dim} is out of range for a tensor of shape [${shape.join(", ")}]`);
    return length;
  }

  isContiguous(): boolean {
    return native.isContiguous(this.liveSlot("isContiguous"));
  }

  /** Sets whether operations on this tensor are recorded for `backward`. Returns this. */
  requiresGrad_(flag = true): this {
    native.setRequiresGrad(this.liveSlot("requiresGrad_"), flag);
    return this;
  }

  /** A tensor on the same memory, outside the graph. */
  detach(): Tensor {
    return ops.detach(this) as Tensor;
  }

  /**
   * Adds the gradient of this tensor to the `grad` of every leaf that it was computed from.
   * @param gradient needed unless this tensor has one element
   */
  backward(gradient: Tensor | null = null, options: { retainGraph?: boolean; createGraph?: boolean } = {}): void {
    const slot = this.liveSlot("backward");
    const { createGraph = false, retainGraph = createGraph } = options;
    native.backward([slot], gradient === null ? [] : [gradient.liveSlot("backward")], retainGraph, createGraph);
  }

  /** The value of a tensor of one element. An int64 beyond 2^53 comes as a BigInt. */
  item(): number;
  item(): number | bigint | boolean {
    return native.item(this.liveSlot("item")) as number | bigint | boolean;
  }

  /**
   * A copy of the elements in C order. float16 and bfloat16 come as Float32Array (exact), float8 too, int64 as BigInt64Array, bool as
   * Uint8Array, complex numbers as pairs.
   */
  data(): TypedArray {
    const dtype = this.dtype;
    const { typedArray, kind } = dtypes[dtype];
    if (typedArray === null) {
      if (dtype === "float16") return float16ToFloat32(new Uint16Array(this.bytes().buffer));
      if (dtype === "bfloat16") return bfloat16ToFloat32(new Uint16Array(this.bytes().buffer));
      const wide = this.to(kind === "complex" ? "complex64" : "float32");
      try {
        return wide.data();
      } finally {
        wide.dispose();
      }
    }
    const array = new typedArray(this.numel() * (kind === "complex" ? 2 : 1));
    native.copyOut(this.liveSlot("data"), array);
    return array;
  }

  /** The elements that printing shows of a large tensor, so that it need not copy the others; see `Printable`. Internal. */
  edgeData(): TypedArray {
    return scope(() => {
      let edges = this.detach();
      for (const [dim, size] of this.shape.entries()) {
        if (size > 2 * printEdge) edges = ops.cat([edges.narrow(dim, 0, printEdge), edges.narrow(dim, size - printEdge, printEdge)], dim) as Tensor;
      }
      return edges.data();
    });
  }

  /** A copy of the elements' bytes in C order. */
  bytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.numel() * dtypes[this.dtype].itemSize);
    native.copyOut(this.liveSlot("bytes"), bytes);
    return bytes;
  }

  /** A live view of a contiguous CPU tensor's memory, without a copy. The memory stays allocated until the view is collected. */
  sharedBytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(native.sharedBytes(this.liveSlot("sharedBytes")));
  }

  /** The elements as nested arrays of numbers (int64 beyond 2^53: BigInt) or booleans; a plain value for zero dimensions. */
  toArray(): NestedArray {
    const data = this.data();
    const isBool = this.dtype === "bool";
    const element = (i: number): NestedArray => {
      const value = data[i] as number | bigint;
      if (isBool) return value !== 0;
      return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
    };
    const nest = (shape: readonly number[], offset: number): NestedArray => {
      const [length, ...rest] = shape;
      if (length === undefined) return element(offset);
      const step = rest.reduce((product, size) => product * size, 1);
      return Array.from({ length }, (_, i) => nest(rest, offset + i * step));
    };
    return nest(this.shape, 0);
  }

  /**
   * Another dtype (`"float64"`), device (`"cuda:0"`), or both. Returns this very tensor when it is so already, as PyTorch does.
   */
  to(target: DType | (string & {}) | { dtype?: DType; device?: string; copy?: boolean; nonBlocking?: boolean }): Tensor {
    const options = typeof target === "string" ? (isDType(target) ? { dtype: target } : { device: target }) : target;
    const { dtype = this.dtype, device = this.device, copy = false, nonBlocking = false } = options as {
      dtype?: DType; device?: string; copy?: boolean; nonBlocking?: boolean;
    };
    if (!copy && dtype === this.dtype && device === this.device) return this;
    return ops.toCopy(this, { dtype, device, nonBlocking }) as Tensor;
  }

  /**
   * Says that work of `stream` reads or writes this tensor, whose memory was taken on another stream: once disposed of, the memory goes to no
   * other tensor before the work that `stream` has by then is done. Does nothing on devices without streams. Returns this.
   *
   * @throws Error when the stream is another device's.
   */
  recordStream(stream: Stream): this {
    const slot = this.liveSlot("recordStream");
    if (stream.handle !== null) native.recordStream(slot, stream.handle);
    return this;
  }

  /** Frees this handle; the memory goes with the last one. Calling it again does nothing. */
  dispose(): void {
    release([this]);
    this.owner = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Values, shape, and what is not default among dtype, device and gradient. */
  toString(): string {
    if (this.slot < 0) return "tensor(disposed)";
    return formatTensor(this);
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

const ops = { cat: bind("cat"), detach: bind("detach"), toCopy: bind("_to_copy") };

for (const name of methodNames) {
  const operator = bind(name);
  Object.defineProperty(Tensor.prototype, camelCase(name), {
    value(this: Tensor, ...rest: unknown[]): unknown {
      return operator(this, ...rest);
    },
    writable: true,
    configurable: true,
  });
}
