import type { DType } from "../../torch/dtype.js";

/** An element type of the safetensors format. */
export interface ElementType {
  /** As the header names it. */
  readonly name: string;
  /** Ours, or null where libtorch's tensors have none. */
  readonly dtype: DType | null;
  /** Bits of one element. */
  readonly bits: number;
}

function type(name: string, bits: number, dtype: DType | null): ElementType {
  return { name, dtype, bits };
}

/** All element types of safetensors 0.8, in its own order of growing alignment, by which writers sort tensors (largest first). */
const elementTypes: readonly ElementType[] = [
  type("BOOL", 8, "bool"),
  type("F4", 4, null), type("F6_E2M3", 6, null), type("F6_E3M2", 6, null),
  type("U8", 8, "uint8"), type("I8", 8, "int8"),
  type("F8_E5M2", 8, "float8_e5m2"), type("F8_E4M3", 8, "float8_e4m3fn"), type("F8_E8M0", 8, null),
  type("F8_E4M3FNUZ", 8, "float8_e4m3fnuz"), type("F8_E5M2FNUZ", 8, "float8_e5m2fnuz"),
  type("I16", 16, "int16"), type("U16", 16, "uint16"), type("F16", 16, "float16"), type("BF16", 16, "bfloat16"),
  type("I32", 32, "int32"), type("U32", 32, "uint32"), type("F32", 32, "float32"),
  type("C64", 64, "complex64"), type("F64", 64, "float64"), type("I64", 64, "int64"), type("U64", 64, "uint64"),
];

const byName = new Map(elementTypes.map((element) => [element.name, element]));
const rankByDType = new Map(elementTypes.map((element, rank) => [element.dtype, rank]));

/** Every name that a header may give. */
export const elementTypeNames: readonly string[] = elementTypes.map(({ name }) => name);

/** The dtypes that can be written. */
export const writableDTypes: readonly DType[] = elementTypes.flatMap(({ dtype }) => (dtype === null ? [] : [dtype]));

/** The type that a header names; undefined when the format has none of that name. */
export function elementTypeNamed(name: string): ElementType | undefined {
  return byName.get(name);
}

/** The format's type for one of our dtypes, with its place in the order of alignment; undefined for complex32 and complex128. */
export function elementTypeOf(dtype: DType): { element: ElementType; rank: number } | undefined {
  const rank = rankByDType.get(dtype);
  return rank === undefined ? undefined : { element: elementTypes[rank] as ElementType, rank };
}
