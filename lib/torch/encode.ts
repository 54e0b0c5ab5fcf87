import { native } from "../native.js";
import { argumentBuffer, growArgumentBuffer } from "./argumentBuffer.js";
import { dtypeCode, isDType, layoutCode, layouts, memoryFormatCode, memoryFormats } from "./dtype.js";
import { isDevice, parseDevice } from "./device.js";
import { DisposedTensorError } from "./errors.js";
import { Generator } from "./random.js";
import type { SchemaType } from "./schema.js";
import { Tensor } from "./tensor.js";

/** Tags of the argument buffer; native/dispatch.cc reads them. */
const Tag = {
  default: 0, none: 1, tensor: 2, double: 3, int: 4, bool: 5, string: 6, ints: 7, doubles: 8, bools: 9, tensors: 10,
  optionalTensors: 11, bigint: 12, device: 13, generator: 14, scalars: 15, complex: 16, strings: 17,
} as const;

/** Before the arguments: the operator and how many arguments are given. After the call, the first is the slot of what it returns. */
const HEAD = 2;

const { call } = native; // once: an object of so many functions is a slow dictionary

let buffer = argumentBuffer();
let cursor = HEAD;
let strings: string[] | undefined; // those of the call being written, which do not fit into the buffer

/** Starts the arguments of a call. */
export function beginArguments(): void {
  cursor = HEAD;
  strings = undefined;
}

/**
 * Calls libtorch with the arguments that were written; those after the first `given` have the schema's defaults.
 *
 * @returns the slot of the one tensor that comes back, of no meaning where that is an argument; or an array of what comes back
 */
export function callEncoded(operator: number, given: number): number | unknown[] {
  buffer[0] = operator;
  buffer[1] = given;
  const results = strings === undefined ? call() : call(strings);
  return results === undefined ? (buffer[0] as number) : results;
}

/** Writes a tensor argument. `operator` is for the message where it is disposed of. */
export function encodeTensor(value: Tensor, operator: string): void {
  write2(Tag.tensor, slotOf(value, operator));
}

function reserve(count: number): void {
  if (cursor + count > buffer.length) buffer = growArgumentBuffer(cursor + count);
}

/** Lets the schema's own default stand. */
export function encodeDefault(): void {
  reserve(1);
  buffer[cursor++] = Tag.default;
}

/** How values of one schema type are recognised and written. */
export interface Codec {
  /** Whether the value fits the type. */
  accepts(value: unknown): boolean;
  /** Writes a value that fits. `operator` is for the message about a disposed tensor. */
  encode(value: unknown, operator: string): void;
}

function write2(tag: number, value: number): void {
  if (cursor + 2 > buffer.length) buffer = growArgumentBuffer(cursor + 2);
  buffer[cursor++] = tag;
  buffer[cursor++] = value;
}

function slotOf(tensor: Tensor, operator: string): number {
  if (tensor.slot < 0) throw new DisposedTensorError(operator);
  return tensor.slot;
}

const isInt = (value: unknown): boolean => (typeof value === "number" && Number.isSafeInteger(value)) || typeof value === "bigint";
const isNumber = (value: unknown): value is number => typeof value === "number";

export interface Complex {
  readonly real: number;
  readonly imag: number;
}

export function isComplex(value: unknown): value is Complex {
  return typeof value === "object" && value !== null && "real" in value && "imag" in value && !(value instanceof Tensor);
}

function writeInt(value: number | bigint): void {
  if (typeof value === "bigint") {
    reserve(3);
    buffer[cursor++] = Tag.bigint;
    buffer[cursor++] = Number(BigInt.asIntN(64, value) >> 32n);
    buffer[cursor++] = Number(BigInt.asUintN(32, value));
  } else {
    write2(Tag.int, value);
  }
}

function writeString(value: string): number {
  strings ??= [];
  return strings.push(value) - 1;
}

const tensor: Codec = {
  accepts: (value) => value instanceof Tensor,
  encode: (value, operator) => encodeTensor(value as Tensor, operator),
};
const int: Codec = { accepts: isInt, encode: (value) => writeInt(value as number | bigint) };
const float: Codec = { accepts: isNumber, encode: (value) => write2(Tag.double, value as number) };
const bool: Codec = {
  accepts: (value) => typeof value === "boolean",
  encode: (value) => write2(Tag.bool, value ? 1 : 0),
};
const str: Codec = {
  accepts: (value) => typeof value === "string",
  encode: (value) => write2(Tag.string, writeString(value as string)),
};
const scalar: Codec = {
  accepts: (value) => isNumber(value) || typeof value === "bigint" || typeof value === "boolean" || isComplex(value),
  encode: (value) => {
    if (typeof value === "number") write2(Number.isSafeInteger(value) && !Object.is(value, -0) ? Tag.int : Tag.double, value);
    else if (typeof value === "boolean") write2(Tag.bool, value ? 1 : 0);
    else if (typeof value === "bigint") writeInt(value);
    else {
      const { real, imag } = value as Complex;
      write2(Tag.complex, real);
      reserve(1);
      buffer[cursor++] = imag;
    }
  },
};
const dtype: Codec = { accepts: isDType, encode: (value) => write2(Tag.int, dtypeCode(value as string)) };
const layout: Codec = {
  accepts: (value) => typeof value === "string" && Object.hasOwn(layouts, value),
  encode: (value) => write2(Tag.int, layoutCode(value as string)),
};
const memoryFormat: Codec = {
  accepts: (value) => typeof value === "string" && Object.hasOwn(memoryFormats, value),
  encode: (value) => write2(Tag.int, memoryFormatCode(value as string)),
};
const device: Codec = {
  accepts: isDevice,
  encode: (value) => {
    const { type, index } = parseDevice(value as string);
    write2(Tag.device, type);
    reserve(1);
    buffer[cursor++] = index;
  },
};
const generator: Codec = {
  accepts: (value) => value instanceof Generator,
  encode: (value) => write2(Tag.generator, (value as Generator).index),
};

const scalarCodecs: Readonly<Record<string, Codec>> = {
  Tensor: tensor, int, float, bool, str, Scalar: scalar, number: scalar, complex: scalar, ScalarType: dtype, Layout: layout,
  MemoryFormat: memoryFormat, Device: device, Generator: generator,
};

/** Starts a list, whose elements follow, a number each. */
function writeList(tag: number, length: number): void {
  reserve(length + 2);
  buffer[cursor++] = tag;
  buffer[cursor++] = length;
}

type ListWriter = (values: readonly unknown[], operator: string) => void;

/** A writer of lists whose elements are a number each, as `toNumber` makes it. */
function numbers(tag: number, toNumber: (value: unknown, operator: string) => number): ListWriter {
  return (values, operator) => {
    writeList(tag, values.length);
    for (let i = 0; i < values.length; i++) buffer[cursor++] = toNumber(values[i], operator);
  };
}

const listWriters: Readonly<Record<string, ListWriter>> = {
  Tensor: numbers(Tag.tensors, (value, operator) => slotOf(value as Tensor, operator)),
  int: numbers(Tag.ints, Number),
  float: numbers(Tag.doubles, Number),
  bool: numbers(Tag.bools, Number),
  str: numbers(Tag.strings, (value) => writeString(value as string)),
  Scalar: (values) => {
    reserve(values.length * 3 + 2);
    buffer[cursor++] = Tag.scalars;
    buffer[cursor++] = values.length;
    for (const value of values) scalar.encode(value, "");
  },
};
const optionalTensors = numbers(Tag.optionalTensors, (value, operator) => (value === null ? -1 : slotOf(value as Tensor, operator)));

function listCodec(element: Codec, write: ListWriter, size: number | null, elementOptional: boolean): Codec {
  const fits = (value: unknown): boolean => (elementOptional && value === null) || element.accepts(value);
  return {
    // `int[2]` takes one number for all, as in PyTorch.
    accepts: (value) => (Array.isArray(value) ? value.every(fits) : size !== null && element.accepts(value)),
    encode: (value, operator) => write(Array.isArray(value) ? value : Array<unknown>(size ?? 1).fill(value), operator),
  };
}

function optionalCodec(inner: Codec): Codec {
  return {
    accepts: (value) => value === null || inner.accepts(value),
    encode: (value, operator) => {
      if (value !== null) {
        inner.encode(value, operator);
      } else {
        reserve(1);
        buffer[cursor++] = Tag.none;
      }
    },
  };
}

const codecs = new Map<string, Codec>();

/** The codec of a schema type; null for types that have no JavaScript form (Storage, Stream, ...). */
export function codecFor(type: SchemaType): Codec | null {
  const known = codecs.get(type.text);
  if (known) return known;
  let codec: Codec | undefined = scalarCodecs[type.base];
  if (codec && type.list) {
    const write = type.list.elementOptional ? (type.base === "Tensor" ? optionalTensors : undefined) : listWriters[type.base];
    codec = write && listCodec(codec, write, type.list.size, type.list.elementOptional);
  }
  if (!codec) return null;
  if (type.optional) codec = optionalCodec(codec);
  codecs.set(type.text, codec);
  return codec;
}
