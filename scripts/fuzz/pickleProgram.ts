import { Op } from "../../lib/checkpoint/pickle/pickleOpcodes.js";

/** One opcode of a pickle, with its argument. Never changed: a mutated program shares the others with its origin. */
export interface Instruction {
  readonly opcode: number;
  /** Opcode and argument as they stand in the file. */
  readonly bytes: Uint8Array;
}

/** How an opcode's argument is written. */
export type ArgumentKind = "none" | "u1" | "u2" | "i4" | "u4" | "u8" | "double" | "lines" | "sized1" | "sized4" | "sized8";

const kinds = new Map<number, ArgumentKind>([
  [Op.PROTO, "u1"], [Op.FRAME, "u8"], [Op.BININT1, "u1"], [Op.BININT2, "u2"], [Op.BININT, "i4"], [Op.BINFLOAT, "double"],
  [Op.BINGET, "u1"], [Op.BINPUT, "u1"], [Op.LONG_BINGET, "u4"], [Op.LONG_BINPUT, "u4"], [Op.GLOBAL, "lines"],
  [Op.LONG1, "sized1"], [Op.SHORT_BINUNICODE, "sized1"], [Op.SHORT_BINSTRING, "sized1"], [Op.SHORT_BINBYTES, "sized1"],
  [Op.LONG4, "sized4"], [Op.BINUNICODE, "sized4"], [Op.BINSTRING, "sized4"], [Op.BINBYTES, "sized4"],
  [Op.BINUNICODE8, "sized8"], [Op.BINBYTES8, "sized8"], [Op.BYTEARRAY8, "sized8"],
]);

const sizeWidth: Partial<Record<ArgumentKind, number>> = { sized1: 1, sized4: 4, sized8: 8 };
const fixedWidth: Partial<Record<ArgumentKind, number>> = { none: 0, u1: 1, u2: 2, i4: 4, u4: 4, u8: 8, double: 8 };

export function argumentKind(opcode: number): ArgumentKind {
  return kinds.get(opcode) ?? "none";
}

/** Every opcode that the reader knows, and a few that it does not. */
export const allOpcodes: readonly number[] = [...Object.values(Op), 0x49, 0x53, 0x69, 0x6f, 0x82, 0x97, 0x98, 0x00, 0xff];

/** Splits a pickle at `start` into its opcodes; ends at STOP, or where the bytes make no sense any more. */
export function parseProgram(bytes: Buffer, start = 0): { program: Instruction[]; end: number } {
  const program: Instruction[] = [];
  let at = start;
  while (at < bytes.length) {
    const opcode = bytes[at] as number;
    const length = 1 + argumentLength(bytes, at + 1, argumentKind(opcode));
    if (at + length > bytes.length) break;
    program.push({ opcode, bytes: bytes.subarray(at, at + length) });
    at += length;
    if (opcode === Op.STOP) break;
  }
  return { program, end: at };
}

function argumentLength(bytes: Buffer, at: number, kind: ArgumentKind): number {
  const fixed = fixedWidth[kind];
  if (fixed !== undefined) return fixed;
  if (kind === "lines") {
    const first = bytes.indexOf(0x0a, at);
    const second = first < 0 ? -1 : bytes.indexOf(0x0a, first + 1);
    return second < 0 ? Infinity : second + 1 - at;
  }
  const width = sizeWidth[kind] as number;
  if (at + width > bytes.length) return Infinity;
  return width + (width === 1 ? (bytes[at] as number) : bytes.readUInt32LE(at)); // 32 bits are enough for seeds
}

/** The pickle's bytes. */
export function assemble(program: readonly Instruction[]): Buffer {
  let length = 0;
  for (const { bytes } of program) length += bytes.length;
  const result = Buffer.allocUnsafe(length);
  let at = 0;
  for (const { bytes } of program) {
    for (let i = 0; i < bytes.length; i++) result[at + i] = bytes[i] as number;
    at += bytes.length;
  }
  return result;
}

const plain = Array.from({ length: 256 }, (_, opcode): Instruction => ({ opcode, bytes: Uint8Array.of(opcode) }));

/** An opcode without argument. */
export function bare(opcode: number): Instruction {
  return plain[opcode] as Instruction;
}

const small: Instruction[] = [];

/** An opcode with an integer argument of fixed width, cut to that width. */
export function withInteger(opcode: number, value: number): Instruction {
  if (!(value >= 0 && value < 256)) return encodeInteger(opcode, value);
  return (small[opcode * 256 + value] ??= encodeInteger(opcode, value)); // instructions never change: the frequent ones are shared
}

function encodeInteger(opcode: number, value: number): Instruction {
  const width = fixedWidth[argumentKind(opcode)] ?? 0;
  const bytes = Buffer.alloc(1 + width);
  bytes[0] = opcode;
  if (width === 8) bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(Math.trunc(value))), 1);
  else if (width > 0) bytes.writeUIntLE(Number(BigInt.asUintN(8 * width, BigInt(Math.trunc(value)))), 1, width);
  return { opcode, bytes };
}

export function withDouble(value: number): Instruction {
  const bytes = Buffer.alloc(9);
  bytes[0] = Op.BINFLOAT;
  bytes.writeDoubleBE(value, 1);
  return { opcode: Op.BINFLOAT, bytes };
}

/** An opcode with a length and that many bytes; `length` may lie. */
export function withContent(opcode: number, content: Uint8Array, length = content.length): Instruction {
  const width = sizeWidth[argumentKind(opcode)] ?? 1;
  const bytes = Buffer.alloc(1 + width + content.length);
  bytes[0] = opcode;
  if (width === 8) bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(length)), 1);
  else bytes.writeUIntLE(Math.min(Math.max(0, length), 2 ** (8 * width) - 1), 1, width);
  bytes.set(content, 1 + width);
  return { opcode, bytes };
}

/** The bytes of a sized argument. */
export function contentOf({ opcode, bytes }: Instruction): Uint8Array {
  return bytes.subarray(1 + (sizeWidth[argumentKind(opcode)] ?? 0));
}

const texts = new Map<string, Instruction>();

export function text(value: string): Instruction {
  let known = texts.get(value);
  if (known === undefined) {
    known = withContent(Op.BINUNICODE, Buffer.from(value, "utf8"));
    if (texts.size < 1000) texts.set(value, known);
  }
  return known;
}

export function integer(value: number): Instruction {
  if (Number.isInteger(value) && value >= -(2 ** 31) && value < 2 ** 31) return withInteger(Op.BININT, value);
  return long(BigInt(value));
}

/** LONG1 in as few bytes as Python would use, or one more. */
export function long(value: bigint): Instruction {
  const width = Math.min(255, Math.ceil((value < 0n ? -value : value).toString(16).length / 2) + 1);
  const bytes = Buffer.from(BigInt.asUintN(8 * width, value).toString(16).padStart(2 * width, "0"), "hex").reverse();
  return withContent(Op.LONG1, bytes);
}

const globals = new Map<string, Instruction>();

export function global(module: string, name: string): Instruction {
  const line = `c${module}\n${name}\n`;
  let known = globals.get(line);
  if (known === undefined) {
    known = { opcode: Op.GLOBAL, bytes: Buffer.from(line, "utf8") };
    if (globals.size < 1000) globals.set(line, known);
  }
  return known;
}
