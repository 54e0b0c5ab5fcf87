import { dtypes, type DType } from "../../torch/dtype.js";
import { printable } from "../error.js";
import { cost } from "../limits.js";
import { AllowedGlobal, describe, type PickleContext, type Stateful } from "./pickleObjects.js";
import { PythonGlobal, PythonTuple } from "../pythonValues.js";
import { contiguousStrides, geometryFault, StorageReference, TensorReference } from "../references.js";

/** numpy's kind letter and item size, against our dtypes. Object, string and record types are absent on purpose. */
const dtypeByCode: Record<string, DType> = {
  f2: "float16", f4: "float32", f8: "float64", c8: "complex64", c16: "complex128", b1: "bool",
  i1: "int8", i2: "int16", i4: "int32", i8: "int64", u1: "uint8", u2: "uint16", u4: "uint32", u8: "uint64",
};

/** A `numpy.dtype` while unpickling. */
class NumpyDType implements Stateful {
  bigEndian = false;

  constructor(readonly dtype: DType) {}

  setState(state: unknown, context: PickleContext): void {
    const order = Array.isArray(state) ? state[1] : undefined;
    if (order !== "<" && order !== ">" && order !== "|" && order !== "=") context.fail("a numpy.dtype whose state has no byte order");
    this.bigEndian = order === ">";
  }

  /** `data` in little-endian order; a copy where bytes must be swapped. */
  littleEndian(data: Uint8Array, context: PickleContext): Uint8Array {
    const { itemSize, kind } = dtypes[this.dtype];
    const unit = kind === "complex" ? itemSize / 2 : itemSize;
    if (!this.bigEndian || unit === 1) return data;
    context.charge(data.byteLength, "a numpy array");
    const swapped = Uint8Array.from(data);
    for (let at = 0; at + unit <= swapped.length; at += unit) swapped.subarray(at, at + unit).reverse();
    return swapped;
  }
}

/** A `numpy.ndarray` while unpickling; it becomes a tensor. */
export class NumpyArray implements Stateful {
  tensor: TensorReference | null = null;

  setState(state: unknown, context: PickleContext): void {
    const [, shape, dtype, fortranOrder, data] = Array.isArray(state) ? state : [];
    this.tensor = arrayTensor(data, dtype, shape, fortranOrder === true, context);
  }
}

function arrayTensor(data: unknown, dtype: unknown, shape: unknown, fortranOrder: boolean, context: PickleContext): TensorReference {
  if (!(dtype instanceof NumpyDType)) context.fail(`a numpy array of type ${describe(dtype)}`);
  if (!(data instanceof Uint8Array)) context.fail(`a numpy array whose data are ${describe(data)}; only arrays of numbers are supported`);
  if (!(shape instanceof PythonTuple) || shape.length > context.limits.dimensions) {
    context.fail(`a numpy array of shape ${describe(shape)}; expected a tuple of at most ${context.limits.dimensions} sizes`);
  }
  const size = [...shape] as number[];
  if (!size.every((extent) => Number.isSafeInteger(extent) && extent >= 0)) {
    context.fail("a numpy array whose sizes are not integers from 0");
  }
  const stride = fortranOrder ? contiguousStrides([...size].reverse()).reverse() : contiguousStrides(size);
  const fault = geometryFault(dtype.dtype, 0, size, stride, data.byteLength, 0);
  if (fault !== null) context.fail(fault);
  const bytes = dtype.littleEndian(data, context);
  // Once more for the tensor's own memory, which is made when the pickle has been read.
  context.charge(cost.tensor + cost.storage + data.byteLength, "a numpy array");
  return new TensorReference(new StorageReference("numpy", "cpu", bytes.byteLength, bytes), dtype.dtype, 0, size, stride, false);
}

function scalar(dtype: unknown, data: unknown, context: PickleContext): unknown {
  if (!(dtype instanceof NumpyDType)) context.fail(`a numpy scalar of type ${describe(dtype)}`);
  const { itemSize, kind, typedArray } = dtypes[dtype.dtype];
  if (!(data instanceof Uint8Array) || data.byteLength !== itemSize) context.fail(`a numpy scalar of ${describe(data)}`);
  if (typedArray === null || kind === "complex") context.fail(`a numpy scalar of type ${dtype.dtype} is not supported`);
  const [value] = new typedArray(Uint8Array.from(dtype.littleEndian(data, context)).buffer);
  if (kind === "bool") return value !== 0;
  return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

const ndarray = new PythonGlobal("numpy", "ndarray");

function numpyFunction(
  modules: string[], name: string, call: (args: readonly unknown[], context: PickleContext) => unknown,
): PythonGlobal[] {
  return modules.map((module) => new AllowedGlobal(module, name, call));
}

/** numpy's part of the allow-list. numpy 2 renamed `numpy.core` to `numpy._core`; both are in use. */
export const numpyGlobals: readonly PythonGlobal[] = [
  ndarray,
  ...numpyFunction(["numpy"], "dtype", ([code], context: PickleContext) => {
    const dtype = typeof code === "string" && Object.hasOwn(dtypeByCode, code) ? dtypeByCode[code] : undefined;
    if (dtype === undefined) {
      context.fail(
        `a numpy.dtype of ${typeof code === "string" ? printable(code) : describe(code)}; numbers and booleans are supported`,
      );
    }
    context.charge(cost.object, "a numpy.dtype");
    return new NumpyDType(dtype);
  }),
  ...numpyFunction(["numpy.core.multiarray", "numpy._core.multiarray"], "scalar", ([dtype, data], context: PickleContext) =>
    scalar(dtype, data, context)),
  ...numpyFunction(["numpy.core.multiarray", "numpy._core.multiarray"], "_reconstruct", ([type], context: PickleContext) => {
    if (type !== ndarray) context.fail(`a numpy array of class ${describe(type)}; expected numpy.ndarray`);
    context.charge(cost.object, "a numpy array");
    return new NumpyArray();
  }),
  ...numpyFunction(["numpy.core.numeric", "numpy._core.numeric"], "_frombuffer", ([data, dtype, shape, order], context: PickleContext) =>
    arrayTensor(data, dtype, shape, order === "F", context)),
];
