import { readFile, stat } from "node:fs/promises";
import { inflateSync } from "node:zlib";
import { printable } from "../../checkpoint/error.js";

/** A numeric variable of a MAT-file. */
export interface MatArray {
  /** At least two sizes: MATLAB knows no vectors, only matrices of one row or column. */
  readonly shape: readonly number[];
  /** In MATLAB's order: the first index changes fastest. Booleans are 0 and 1. */
  readonly values: Float64Array;
}

/** A MAT-file that cannot be read: damaged, hostile or of another version. */
export class MatFileError extends Error {
  override readonly name = "MatFileError";
  /** The file's path. */
  readonly file: string;

  constructor(file: string, reason: string, options?: ErrorOptions) {
    super(`${file}: ${reason}`, options);
    this.file = file;
  }
}

/**
 * The most bytes that a file may have, and that its variables may take when they are unpacked. Values become 8 bytes each, so that
 * reading never takes more than ten times as much.
 */
const mostBytes = 16 * 2 ** 20;
const mostDimensions = 32;

/** Each costs some time, however small. */
const mostVariables = 10_000;

/** The format's element types that are not numbers. */
const MATRIX = 14, COMPRESSED = 15;
/** A flag of a variable. */
const COMPLEX = 0x800;

const damagedFile = "the file is damaged: copy or download it again";

type ReadNumber = (view: DataView, at: number, little: boolean) => number;

/** Element types that are numbers: bytes of one, and how it is read. */
const numberTypes: Readonly<Record<number, { size: number; read: ReadNumber }>> = {
  1: { size: 1, read: (view, at) => view.getInt8(at) },
  2: { size: 1, read: (view, at) => view.getUint8(at) },
  3: { size: 2, read: (view, at, little) => view.getInt16(at, little) },
  4: { size: 2, read: (view, at, little) => view.getUint16(at, little) },
  5: { size: 4, read: (view, at, little) => view.getInt32(at, little) },
  6: { size: 4, read: (view, at, little) => view.getUint32(at, little) },
  7: { size: 4, read: (view, at, little) => view.getFloat32(at, little) },
  9: { size: 8, read: (view, at, little) => view.getFloat64(at, little) },
  12: { size: 8, read: (view, at, little) => Number(view.getBigInt64(at, little)) },
  13: { size: 8, read: (view, at, little) => Number(view.getBigUint64(at, little)) },
};

/** Array classes that hold numbers: double, single, and whole numbers of 8 to 64 bits. The others are cells, structures, text and so on. */
const isNumeric = (arrayClass: number): boolean => arrayClass >= 6 && arrayClass <= 15;

/**
 * Reads the numeric variables of a MATLAB MAT-file of level 5 (`save -v6` and `-v7`, `scipy.io.savemat`); others are left out.
 *
 * 64-bit whole numbers beyond 2^53 are rounded.
 *
 * @throws {MatFileError} when the file is missing, damaged, of another version, or takes more than 16 MiB unpacked.
 */
export async function readMatFile(path: string): Promise<Map<string, MatArray>> {
  let bytes: Buffer;
  try {
    const about = await stat(path); // first: opening a named pipe would wait for ever
    if (!about.isFile()) throw new Error("it is not a regular file");
    if (about.size > mostBytes) throw new Error(`it has ${about.size} bytes; files up to ${mostBytes} are read`);
    bytes = await readFile(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new MatFileError(path, code === "ENOENT" ? "there is no such file" : `it cannot be read: ${message}`, { cause: error });
  }
  return parseMatFile(bytes, path);
}

/**
 * As `readMatFile`, of bytes in memory.
 *
 * @param file what messages call them
 */
export function parseMatFile(bytes: Uint8Array, file: string): Map<string, MatArray> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 128)).toString("latin1");
  if (text.startsWith("MATLAB 7.3") || text.startsWith("\x89HDF")) {
    throw new MatFileError(file, "it is a MAT-file of version 7.3; save it with `save -v7` (or scipy.io.savemat)");
  }
  const byteOrder = text.slice(126, 128);
  if (byteOrder !== "IM" && byteOrder !== "MI") {
    throw new MatFileError(file, `it is no MAT-file of level 5 (${bytes.length} bytes, no header); copy or download it again`);
  }
  const variables = new Map<string, MatArray>();
  const little = byteOrder === "IM";
  const elements = new Elements(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), little, file, 128);
  let room = mostBytes;
  for (let count = 0; !elements.ended; count++) {
    if (count === mostVariables) throw new MatFileError(file, `it has more than ${mostVariables} variables; save fewer`);
    let element = elements.next();
    if (element.type === COMPRESSED) {
      const unpacked = inflate(element, room, file);
      room -= unpacked.length;
      element = new Elements(new DataView(unpacked.buffer, unpacked.byteOffset, unpacked.byteLength), little, file).next();
    }
    if (element.type !== MATRIX || element.view.byteLength === 0) continue;
    const variable = readMatrix(new Elements(element.view, little, file), file);
    if (variable) variables.set(variable.name, variable);
  }
  return variables;
}

interface Element {
  type: number;
  view: DataView;
}

/** The elements of a file or of a matrix, one after another. */
class Elements {
  constructor(private readonly view: DataView, readonly little: boolean, private readonly file: string, private at = 0) {}

  get ended(): boolean {
    return this.at >= this.view.byteLength;
  }

  next(): Element {
    const { view, little, at } = this;
    this.#require(8);
    const first = view.getUint32(at, little);
    // Up to four bytes stand in the tag itself, with their number where the type's upper half would be.
    const small = first >>> 16;
    if (small > 4) throw new MatFileError(this.file, `it has an element of the unknown type 0x${first.toString(16)}; ${damagedFile}`);
    const type = small > 0 ? first & 0xffff : first;
    const length = small > 0 ? small : view.getUint32(at + 4, little);
    const start = small > 0 ? at + 4 : at + 8;
    if (small === 0) this.#require(8 + length);
    const padded = small > 0 ? 8 : 8 + (type === COMPRESSED ? length : Math.ceil(length / 8) * 8);
    this.at = at + padded;
    return { type, view: new DataView(view.buffer, view.byteOffset + start, length) };
  }

  #require(length: number): void {
    const left = this.view.byteLength - this.at;
    if (length <= left) return;
    throw new MatFileError(this.file, `it ends inside an element of ${length} bytes, of which ${left} are there; ${damagedFile}`);
  }
}

function inflate({ view }: Element, room: number, file: string): Uint8Array {
  try {
    return inflateSync(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), { maxOutputLength: Math.max(1, room) });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === "ERR_BUFFER_TOO_LARGE"
      ? `its variables take more than ${mostBytes} bytes unpacked; save fewer`
      : `a compressed variable cannot be unpacked (${message}); ${damagedFile}`;
    throw new MatFileError(file, reason, { cause: error });
  }
}

/** The variable, or null when it holds no real numbers. */
function readMatrix(elements: Elements, file: string): (MatArray & { name: string }) | null {
  const damaged = (what: string): never => {
    throw new MatFileError(file, `${what}; ${damagedFile}`);
  };
  const numbers = (what: string): Float64Array => {
    const { type, view } = elements.next();
    const format = Object.hasOwn(numberTypes, type) ? numberTypes[type]! : damaged(`a variable's ${what} are of type ${type}, no numbers`);
    if (view.byteLength % format.size !== 0) damaged(`a variable's ${what} take ${view.byteLength} bytes, no multiple of ${format.size}`);
    const values = new Float64Array(view.byteLength / format.size);
    for (let i = 0; i < values.length; i++) values[i] = format.read(view, i * format.size, elements.little);
    return values;
  };
  const flags = numbers("flags")[0] ?? damaged("a variable has no flags");
  if (!isNumeric(flags & 0xff) || (flags & COMPLEX) !== 0) return null;
  const sizes = numbers("sizes");
  if (sizes.length < 2 || sizes.length > mostDimensions || sizes.some((size) => size < 0)) {
    damaged(`a variable's sizes are ${sizes.slice(0, 4).join(" x ")}`);
  }
  const { view } = elements.next();
  const name = Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString("latin1");
  const values = numbers("values");
  const expected = sizes.reduce((product, size) => product * size, 1);
  if (values.length !== expected) {
    damaged(`${printable(name)} has ${values.length} values, where its sizes ${sizes.slice(0, 4).join(" x ")} ask for ${expected}`);
  }
  return { name, shape: [...sizes], values };
}
