/**
 * Element types, layouts and memory formats: PyTorch's names, their c10 enumeration codes, and how elements look from JavaScript.
 *
 * Codes are those of `c10::ScalarType`, `c10::Layout` and `c10::MemoryFormat`, which PyTorch keeps stable because they are
 * written into serialised files.
 */

export type DType =
  | "uint8" | "int8" | "int16" | "int32" | "int64"
  | "float16" | "float32" | "float64"
  | "complex32" | "complex64" | "complex128"
  | "bool" | "bfloat16"
  | "float8_e5m2" | "float8_e4m3fn" | "float8_e5m2fnuz" | "float8_e4m3fnuz"
  | "uint16" | "uint32" | "uint64";

/** A complex number as an operator takes it. */
export interface Complex {
  readonly real: number;
  readonly imag: number;
}

/** What an operator takes for a `Scalar`: an integral number or bigint is an integer, a fractional number a double. */
export type Scalar = number | bigint | boolean | Complex;

/** Whether elements are whole, real, complex or truth values. */
export type DTypeKind = "float" | "int" | "bool" | "complex";

/** A JavaScript array of numbers of one type. */
export type TypedArray =
  | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array
  | BigInt64Array | BigUint64Array | Float32Array | Float64Array;

/** Makes a {@link TypedArray}. */
export type TypedArrayConstructor =
  | Uint8ArrayConstructor | Int8ArrayConstructor | Uint16ArrayConstructor | Int16ArrayConstructor
  | Uint32ArrayConstructor | Int32ArrayConstructor | BigInt64ArrayConstructor | BigUint64ArrayConstructor
  | Float32ArrayConstructor | Float64ArrayConstructor;

/** What is known of an element type. */
export interface DTypeInfo {
  /** `c10::ScalarType` as a number. */
  readonly code: number;
  /** Bytes per element. */
  readonly itemSize: number;
  /**
   * Constructor whose elements lie in memory exactly as the tensor's do, or null where JavaScript has none (half precision, float8).
   * A complex element is two of them, real part first.
   */
  readonly typedArray: TypedArrayConstructor | null;
  readonly kind: DTypeKind;
}

function info(code: number, itemSize: number, kind: DTypeKind, typedArray: TypedArrayConstructor | null = null): DTypeInfo {
  return { code, itemSize, typedArray, kind };
}

/** Every element type, by libtorch's code. */
export const dtypes: Readonly<Record<DType, DTypeInfo>> = {
  uint8: info(0, 1, "int", Uint8Array),
  int8: info(1, 1, "int", Int8Array),
  int16: info(2, 2, "int", Int16Array),
  int32: info(3, 4, "int", Int32Array),
  int64: info(4, 8, "int", BigInt64Array),
  float16: info(5, 2, "float"),
  float32: info(6, 4, "float", Float32Array),
  float64: info(7, 8, "float", Float64Array),
  complex32: info(8, 4, "complex"),
  complex64: info(9, 8, "complex", Float32Array),
  complex128: info(10, 16, "complex", Float64Array),
  bool: info(11, 1, "bool", Uint8Array),
  bfloat16: info(15, 2, "float"),
  float8_e5m2: info(23, 1, "float"),
  float8_e4m3fn: info(24, 1, "float"),
  float8_e5m2fnuz: info(25, 1, "float"),
  float8_e4m3fnuz: info(26, 1, "float"),
  uint16: info(27, 2, "int", Uint16Array),
  uint32: info(28, 4, "int", Uint32Array),
  uint64: info(29, 8, "int", BigUint64Array),
};

export const uint8 = "uint8", int8 = "int8", int16 = "int16", int32 = "int32", int64 = "int64";
export const float16 = "float16", float32 = "float32", float64 = "float64", bfloat16 = "bfloat16", bool = "bool";
export const complex32 = "complex32", complex64 = "complex64", complex128 = "complex128";
export const float8_e5m2 = "float8_e5m2", float8_e4m3fn = "float8_e4m3fn";
export const float8_e5m2fnuz = "float8_e5m2fnuz", float8_e4m3fnuz = "float8_e4m3fnuz";
export const uint16 = "uint16", uint32 = "uint32", uint64 = "uint64";

const dtypeByCode: (DType | undefined)[] = [];
for (const [name, { code }] of Object.entries(dtypes)) dtypeByCode[code] = name as DType;

/** Name of a `c10::ScalarType` code. Throws `TypeError` for quantized and bit types, which have no name here. */
export function dtypeFromCode(code: number): DType {
  const name = dtypeByCode[code];
  if (name === undefined) {
    throw new TypeError(`dtype code ${code} is not supported; convert the tensor to one of ${Object.keys(dtypes).join(", ")}`);
  }
  return name;
}

/** Whether a value names an element type. */
export function isDType(name: unknown): name is DType {
  return typeof name === "string" && Object.hasOwn(dtypes, name);
}

/** `c10::ScalarType` code of a dtype's name. Throws `TypeError` that lists the names when it is not one. */
export function dtypeCode(name: string): number {
  if (!isDType(name)) throw new TypeError(`unknown dtype ${JSON.stringify(name)}; expected one of ${Object.keys(dtypes).join(", ")}`);
  return dtypes[name].code;
}

/** The dtype whose elements lie in memory as the typed array's do (a `Buffer` and a clamped array are uint8). */
export function dtypeOfTypedArray(array: ArrayBufferView): DType {
  if (array instanceof Float32Array) return "float32";
  if (array instanceof Float64Array) return "float64";
  if (array instanceof Uint8Array || array instanceof Uint8ClampedArray) return "uint8";
  if (array instanceof BigInt64Array) return "int64";
  if (array instanceof Int32Array) return "int32";
  if (array instanceof Int16Array) return "int16";
  if (array instanceof Int8Array) return "int8";
  if (array instanceof Uint16Array) return "uint16";
  if (array instanceof Uint32Array) return "uint32";
  if (array instanceof BigUint64Array) return "uint64";
  throw new TypeError(`no dtype matches ${array.constructor.name}; pass a typed array such as Float32Array or BigInt64Array`);
}

/** How a tensor's elements are stored. */
export type Layout = "strided" | "sparse_coo" | "sparse_csr" | "_mkldnn" | "sparse_csc" | "sparse_bsr" | "sparse_bsc" | "jagged";

/** `c10::Layout` codes. */
export const layouts: Readonly<Record<Layout, number>> = {
  strided: 0, sparse_coo: 1, sparse_csr: 2, _mkldnn: 3, sparse_csc: 4, sparse_bsr: 5, sparse_bsc: 6, jagged: 7,
};

/** In which order a dense tensor's dimensions lie in memory. */
export type MemoryFormat = "contiguous_format" | "preserve_format" | "channels_last" | "channels_last_3d";

/** `c10::MemoryFormat` codes. */
export const memoryFormats: Readonly<Record<MemoryFormat, number>> = {
  contiguous_format: 0, preserve_format: 1, channels_last: 2, channels_last_3d: 3,
};

function codeIn(table: Readonly<Record<string, number>>, what: string, name: string): number {
  if (!Object.hasOwn(table, name)) {
    throw new TypeError(`unknown ${what} ${JSON.stringify(name)}; expected one of ${Object.keys(table).join(", ")}`);
  }
  return table[name] as number;
}

/** `c10::Layout` code of a layout's name; `TypeError` listing the names when it is not one. */
export function layoutCode(name: string): number {
  return codeIn(layouts, "layout", name);
}

/** `c10::MemoryFormat` code of a memory format's name; `TypeError` listing the names when it is not one. */
export function memoryFormatCode(name: string): number {
  return codeIn(memoryFormats, "memory format", name);
}

/** The layout that libtorch calls by this number. */
export function layoutFromCode(code: number): Layout {
  const name = Object.keys(layouts).find((key) => layouts[key as Layout] === code);
  if (name === undefined) throw new TypeError(`unknown layout code ${code}; expected 0 to ${Object.keys(layouts).length - 1}`);
  return name as Layout;
}

/** The memory format that libtorch calls by this number. */
export function memoryFormatFromCode(code: number): MemoryFormat {
  const name = Object.keys(memoryFormats).find((key) => memoryFormats[key as MemoryFormat] === code);
  if (name === undefined) throw new TypeError(`unknown memory format code ${code}; expected 0 to 3`);
  return name as MemoryFormat;
}

// --- Half precision -------------------------------------------------------------------------------------------------------

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

function floatBits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** IEEE half-precision bit patterns to float32; exact. */
export function float16ToFloat32(halves: Uint16Array): Float32Array {
  const out = new Float32Array(halves.length);
  const bits = floatBits(out);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i] as number;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) {
      bits[i] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
    } else if (magnitude >= 0x400) {
      bits[i] = sign | ((magnitude << 13) + 0x38000000); // 112 << 23 rebiases the exponent from 15 to 127
    } else {
      out[i] = (sign ? -magnitude : magnitude) * 2 ** -24; // zero and subnormals
    }
  }
  return out;
}

/** float32 to IEEE half-precision bit patterns, rounded to nearest even; beyond 65504 (after rounding) becomes infinity. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  const source = floatBits(values);
  for (let i = 0; i < values.length; i++) {
    const bits = source[i] as number;
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      out[i] = sign | 0x7e00;
    } else if (magnitude >= 0x477ff000) {
      out[i] = sign | 0x7c00; // 65520 and above: halfway to 65536 and beyond
    } else if (magnitude >= 0x38800000) {
      out[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    } else {
      // Below 2^-14 halves are multiples of 2^-24, which is the spacing of float32 just above 0.5: the addition rounds.
      scratchBits[0] = magnitude;
      scratchFloat[0] = (scratchFloat[0] as number) + 0.5;
      out[i] = sign | ((scratchBits[0] as number) - 0x3f000000);
    }
  }
  return out;
}

/** bfloat16 bit patterns to float32; exact. */
export function bfloat16ToFloat32(brains: Uint16Array): Float32Array {
  const out = new Float32Array(brains.length);
  const bits = floatBits(out);
  for (let i = 0; i < brains.length; i++) bits[i] = (brains[i] as number) << 16;
  return out;
}

/** float32 to bfloat16 bit patterns, rounded to nearest even; every NaN becomes 0x7fc0, as in PyTorch. */
export function float32ToBFloat16(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  const source = floatBits(values);
  for (let i = 0; i < values.length; i++) {
    const bits = source[i] as number;
    out[i] = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return out;
}
