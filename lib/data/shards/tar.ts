import type { ByteSource } from "./byteSource.js";
import { ShardError } from "./shardError.js";

/**
 * The members of a tar archive: ustar, GNU (long names, sizes in base 256) and POSIX 2001 (PAX). Own code as the libraries for it hand out
 * bytes but not where they lie, and with that an image in a plain file need not pass through JavaScript.
 */
export interface TarMember {
  name: string;
  /** In bytes. */
  size: number;
  /** Where the data begins in the archive, in bytes. */
  offset: number;
  /** The data. Only before the next member is asked for. */
  read(): Promise<Uint8Array>;
}

const blockSize = 512;
const largestExtension = 1024 * 1024; // a long name or a PAX header
const largestStreamed = 1024 ** 3; // a member that is handed out as bytes

interface Header {
  name: string;
  size: number;
  type: string;
}

/**
 * The regular files of an archive, in its order. It ends at the first block of zeros, as GNU tar and Python's tarfile read it (so of
 * archives that were concatenated only the first), or where the source ends between two members. Folders, links and sparse files are left
 * out.
 *
 * @param shard how errors call the archive
 * @throws {ShardError} when it is cut off, damaged or not a tar archive.
 */
export async function* tarMembers(source: ByteSource, shard: string): AsyncGenerator<TarMember, void, undefined> {
  let longName: string | null = null;
  let pax: Map<string, string> | null = null;
  for (let first = true; ; first = false) {
    const at = source.position;
    const block = await source.read(blockSize);
    if (block.length === 0 && !first) return;
    if (block.length < blockSize) throw cutOff(shard, at, first ? block.length : null);
    if (block.every((byte) => byte === 0)) return;
    const header = parseHeader(block, shard, at, first);
    const { type } = header;

    if (type === "L" || type === "x" || type === "g" || type === "K") {
      if (header.size > largestExtension) {
        throw damaged(shard, at, `a header of type ${type} says ${header.size} bytes, more than ${largestExtension}`);
      }
      const body = await source.read(header.size);
      if (body.length < header.size || !(await source.skip(padding(header.size)))) throw cutOff(shard, at);
      if (type === "L") longName = decodeName(body);
      if (type === "x") pax = parsePax(body, shard, at);
      continue;
    }

    const name = pax?.get("path") ?? longName ?? header.name;
    const paxSize = pax?.get("size");
    const size = paxSize === undefined ? header.size : Number(paxSize);
    if (!Number.isSafeInteger(size) || size < 0) throw damaged(shard, at, `a PAX header says that ${name} has ${paxSize} bytes`);
    const sparse = type === "S" || [...(pax?.keys() ?? [])].some((key) => key.startsWith("GNU.sparse."));
    longName = null;
    pax = null;
    if (type === "S") await skipSparseMap(block, source, shard, at);

    const regular = type === "0" || type === "7" || (type === "\0" && !name.endsWith("/"));
    const folderOrLink = (type >= "1" && type <= "6") || (type === "\0" && name.endsWith("/"));
    if (folderOrLink) continue; // whatever size they say: no data follows
    const offset = source.position;
    if (source.size !== null && offset + size > source.size) {
      throw new ShardError(
        shard,
        `cut off: ${name} says ${size} bytes from byte ${offset} on, but the file ends at byte ${source.size}; ${remedy}`,
        { offset: at },
      );
    }
    if (regular && !sparse) {
      yield { name, size, offset, read: () => readMember(source, shard, name, size, at) };
    }
    if (!(await source.skip(offset + size + padding(size) - source.position))) throw cutOff(shard, at);
  }
}

const remedy = "fetch or write the shard again, or leave it out of the list";

function cutOff(shard: string, offset: number, length: number | null = null): ShardError {
  if (length === 0) return new ShardError(shard, `empty; ${remedy}`, { offset });
  return new ShardError(shard, `cut off in the member at byte ${offset}; ${remedy}`, { offset });
}

function damaged(shard: string, offset: number, what: string): ShardError {
  return new ShardError(shard, `damaged at byte ${offset}: ${what}; ${remedy}`, { offset });
}

async function readMember(source: ByteSource, shard: string, name: string, size: number, at: number): Promise<Uint8Array> {
  if (size > largestStreamed) {
    throw new ShardError(
      shard,
      `${name} has ${size} bytes, more than the ${largestStreamed} that are read into memory; leave it out of the shard`,
      { offset: at },
    );
  }
  const bytes = await source.read(size);
  if (bytes.length < size) throw cutOff(shard, at);
  return bytes;
}

function padding(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}

function parseHeader(block: Uint8Array, shard: string, at: number, first: boolean): Header {
  const stored = parseNumber(block, 148, 8);
  let unsigned = 0, signed = 0; // old programs added signed bytes
  for (let i = 0; i < blockSize; i++) {
    const byte = i >= 148 && i < 156 ? 32 : block[i]!;
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  if (stored !== unsigned && stored !== signed) {
    if (first) throw new ShardError(shard, `not a tar archive; ${compressionOf(block)}`, { offset: at });
    throw damaged(shard, at, "no header of a member, or its checksum is wrong");
  }
  const size = parseNumber(block, 124, 12);
  if (size === null) throw damaged(shard, at, "the size of a member is not a number");
  const type = String.fromCharCode(block[156]!);
  const name = decodeName(block.subarray(0, 100));
  // GNU's magic is "ustar ", and it keeps other things where ustar has the name's beginning.
  const ustar = block[262] === 0 && String.fromCharCode(...block.subarray(257, 262)) === "ustar";
  const prefix = ustar ? decodeName(block.subarray(345, 500)) : "";
  return { name: prefix === "" ? name : `${prefix}/${name}`, size, type };
}

function compressionOf(block: Uint8Array): string {
  const starts = (...bytes: number[]): boolean => bytes.every((byte, i) => block[i] === byte);
  if (starts(0x1f, 0x8b)) return "it is compressed by gzip: let its name end in .tar.gz or .tgz";
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return 'it is compressed by zstd: give a command, "pipe:zstd -dc FILE"';
  if (starts(0x42, 0x5a, 0x68)) return 'it is compressed by bzip2: give a command, "pipe:bzip2 -dc FILE"';
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a)) return 'it is compressed by xz: give a command, "pipe:xz -dc FILE"';
  return "its first block is no header of a member; check what the file holds";
}

/** An octal text, or GNU's base 256 where the first bit is set. Null when it is neither, or above 2^53. */
function parseNumber(block: Uint8Array, start: number, length: number): number | null {
  const field = block.subarray(start, start + length);
  if (field[0]! & 0x80) {
    let value = field[0]! & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    return Number.isSafeInteger(value) ? value : null;
  }
  const text = untilZero(Buffer.from(field).toString("latin1")).trim();
  if (text === "") return 0;
  return /^[0-7]+$/.test(text) ? parseInt(text, 8) : null;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8, and what is not that as Latin-1, so that names that differ stay different. */
function decodeName(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const name = end < 0 ? bytes : bytes.subarray(0, end);
  try {
    return utf8.decode(name);
  } catch {
    return Buffer.from(name).toString("latin1");
  }
}

function untilZero(text: string): string {
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}

/** Records of the form `LENGTH KEY=VALUE\n`, where the length counts the whole record in bytes. */
function parsePax(body: Uint8Array, shard: string, at: number): Map<string, string> {
  const records = new Map<string, string>();
  let from = 0;
  while (from < body.length && body[from] !== 0) {
    const space = body.indexOf(32, from);
    const length = space < 0 ? NaN : Number(Buffer.from(body.subarray(from, space)).toString("latin1"));
    const equals = body.indexOf(61, space);
    const end = from + length;
    if (!Number.isInteger(length) || end > body.length || equals < 0 || equals >= end) {
      throw damaged(shard, at, "a PAX header that does not follow its form");
    }
    records.set(decodeName(body.subarray(space + 1, equals)), decodeName(body.subarray(equals + 1, end - 1)));
    from = end;
  }
  return records;
}

/** Old GNU sparse files have the rest of their map in blocks between header and data. */
async function skipSparseMap(header: Uint8Array, source: ByteSource, shard: string, at: number): Promise<void> {
  let more = header[482] !== 0;
  while (more) {
    const block = await source.read(blockSize);
    if (block.length < blockSize) throw cutOff(shard, at);
    more = block[504] !== 0;
  }
}
