import { dtypes, type DType } from "../torch/dtype.js";

/** Element type of each of PyTorch's typed storage classes, by class name; what a checkpoint names instead of a dtype. */
const storageClasses: Partial<Record<DType, string>> = {
  float64: "DoubleStorage",
  float32: "FloatStorage",
  float16: "HalfStorage",
  bfloat16: "BFloat16Storage",
  int64: "LongStorage",
  int32: "IntStorage",
  int16: "ShortStorage",
  int8: "CharStorage",
  uint8: "ByteStorage",
  bool: "BoolStorage",
  complex64: "ComplexFloatStorage",
  complex128: "ComplexDoubleStorage",
};

const dtypeByClass = new Map(Object.entries(storageClasses).map(([dtype, name]) => [name, dtype as DType]));

/** Names of the storage classes, for the unpickler's allow-list. */
export const storageClassNames: readonly string[] = [...dtypeByClass.keys()];

/** dtype of `torch.FloatStorage` and so on; undefined for a name that is none of them. */
export function dtypeOfStorageClass(name: string): DType | undefined {
  return dtypeByClass.get(name);
}

/**
 * Storage class under which PyTorch saves a dtype, or undefined for the newer dtypes (float8, wide unsigned integers, complex32):
 * those are saved as untyped bytes with the dtype beside them.
 */
export function storageClassOf(dtype: DType): string | undefined {
  return storageClasses[dtype];
}

/** Bytes per element. */
export function itemSize(dtype: DType): number {
  return dtypes[dtype].itemSize;
}
