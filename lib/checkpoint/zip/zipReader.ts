import { crc32 } from "node:zlib";
import type { ByteSource, StorageBytes } from "../byteSource.js";
import { CheckpointError, printable, type CheckpointSite } from "../error.js";
import { cost, type CheckpointLimits, type MemoryBudget } from "../limits.js";
import { readChecked } from "./checkedRead.js";
import { Signature, SENTINEL16, SENTINEL32 } from "./zipFormat.js";

/** One stored file of a zip. */
export interface ZipEntry {
  readonly name: string;
  readonly size: number;
  readonly crc: number;
  /** Position of the local header. */
  readonly headerAt: number;
  /** Position that the entry may not pass: the next entry's header, or the directory. */
  readonly limitAt: number;
  readonly flags: number;
}

const END_SIZE = 22;
const END64_SIZE = 56;
const LOCATOR_SIZE = 20;
const CENTRAL_SIZE = 46;
const LOCAL_SIZE = 30;
const DESCRIPTOR_SIZE = 16;
const DESCRIPTOR64_SIZE = 24;

/** Entries up to this size are read together with their headers. */
const SMALL_ENTRY = 64 * 2 ** 10;

const FLAG_DESCRIPTOR = 0x0008;
const FLAG_UTF8 = 0x0800;

/**
 * A zip file as `torch.save` writes it: entries are stored, not compressed. Stricter than common unzip tools, since two readers that
 * disagree about a file's content are how hostile ones slip through: one directory that ends the file, local headers that say what
 * the directory says, no name twice or climbing out of its folder, no overlaps, and a CRC-32 for everything that is read.
 */
export class ZipReader {
  private constructor(private readonly source: ByteSource, readonly entries: ReadonlyMap<string, ZipEntry>) {}

  /** Reads and checks the directory. Throws `CheckpointError`. */
  static async open(source: ByteSource, limits: CheckpointLimits, budget: MemoryBudget): Promise<ZipReader> {
    const { count, start, size } = await findDirectory(source);
    const site = { file: source.name };
    if (count > limits.zipEntries) {
      throw new CheckpointError(
        site, start, `the zip has ${count} entries; the limit is ${limits.zipEntries}`,
      );
    }
    if (count * CENTRAL_SIZE > size) {
      throw new CheckpointError(
        site, start, `the zip directory of ${size} bytes cannot hold ${count} entries`,
      );
    }
    budget.charge(size + count * cost.zipEntry, "the zip directory", site, start);
    const directory = Buffer.alloc(size);
    await source.read(directory, start);
    const entries = parseDirectory(directory, count, start, source.name);
    return new ZipReader(source, entries);
  }

  /** The entry of that name; throws `CheckpointError` when there is none. */
  entry(name: string): ZipEntry {
    const entry = this.entries.get(name);
    if (entry === undefined) throw new CheckpointError({ file: this.source.name, entry: name }, null, "the zip has no such entry");
    return entry;
  }

  /** Reads a whole small entry into memory, with its CRC checked. */
  async read(entry: ZipEntry, budget: MemoryBudget): Promise<Buffer> {
    budget.charge(entry.size, "an entry", { file: this.source.name, entry: entry.name });
    const bytes = Buffer.allocUnsafeSlow(entry.size);
    await this.readInto(entry, [bytes]);
    return bytes;
  }

  /**
   * Reads an entry's bytes into memory of exactly its size, and checks local header, data descriptor and CRC-32.
   */
  async readInto(entry: ZipEntry, target: StorageBytes): Promise<void> {
    const site = { file: this.source.name, entry: entry.name };
    const window = await Window.read(this.source, entry);
    const dataAt = await this.#checkLocalHeader(entry, window, site);
    const crc = entry.size > SMALL_ENTRY ? await readChecked(this.source, target, dataAt) : await copyChecked(window, target, dataAt);
    if (crc !== entry.crc) {
      throw new CheckpointError(
        site, null, `its CRC-32 is ${hex(crc)}, the zip says ${hex(entry.crc)}; the file is damaged (copy or download it again)`,
      );
    }
  }

  /** Position of the entry's first data byte. */
  async #checkLocalHeader(entry: ZipEntry, window: Window, site: CheckpointSite): Promise<number> {
    const fault = (what: string): CheckpointError =>
      new CheckpointError(site, null, `its local header has ${what} than the zip directory; the file is damaged or hostile`);
    const header = await window.take(entry.headerAt, LOCAL_SIZE);
    if (header.readUInt32LE(0) !== Signature.LOCAL) throw fault("another signature");
    const flags = header.readUInt16LE(6);
    if (flags !== entry.flags) throw fault("other flags");
    if (header.readUInt16LE(8) !== 0) throw fault("another compression method");
    const nameLength = header.readUInt16LE(26);
    const extraLength = header.readUInt16LE(28);
    const hasDescriptor = (flags & FLAG_DESCRIPTOR) !== 0;
    const dataAt = entry.headerAt + LOCAL_SIZE + nameLength + extraLength;
    if (dataAt + entry.size + (hasDescriptor ? DESCRIPTOR_SIZE : 0) > entry.limitAt) throw fault("a longer entry");
    const variable = await window.take(entry.headerAt + LOCAL_SIZE, nameLength + extraLength);
    if (!variable.subarray(0, nameLength).equals(Buffer.from(entry.name, "utf8"))) throw fault("another name");
    const sizes = { packed: header.readUInt32LE(18), unpacked: header.readUInt32LE(22) };
    if (applyZip64(variable.subarray(nameLength), [["unpacked", sizes], ["packed", sizes]]) === null) throw fault("another zip64 field");
    const values = [[header.readUInt32LE(14), entry.crc], [sizes.packed, entry.size], [sizes.unpacked, entry.size]] as const;
    // Where a descriptor follows the data, the header may leave its numbers at zero.
    if (values.some(([value, expected]) => value !== expected && !(hasDescriptor && value === 0))) throw fault("another CRC-32 or size");
    if (hasDescriptor) await this.#checkDescriptor(entry, window, dataAt + entry.size, site);
    return dataAt;
  }

  async #checkDescriptor(entry: ZipEntry, window: Window, at: number, site: CheckpointSite): Promise<void> {
    const descriptor = Buffer.alloc(DESCRIPTOR64_SIZE);
    (await window.take(at, Math.min(DESCRIPTOR64_SIZE, this.source.size - at))).copy(descriptor);
    const narrow = descriptor.readUInt32LE(8) === entry.size && descriptor.readUInt32LE(12) === entry.size;
    const wide = descriptor.readBigUInt64LE(8) === BigInt(entry.size) && descriptor.readBigUInt64LE(16) === BigInt(entry.size);
    if (descriptor.readUInt32LE(0) !== Signature.DESCRIPTOR || descriptor.readUInt32LE(4) !== entry.crc || !(narrow || wide)) {
      throw new CheckpointError(
        site, null, "the descriptor behind its data differs from the zip directory; the file is damaged or hostile",
      );
    }
  }
}

/** The first bytes of an entry, read at once: checkpoints hold hundreds of small entries, and each read is a round trip. */
class Window {
  private constructor(private readonly source: ByteSource, private readonly at: number, private readonly bytes: Buffer) {}

  static async read(source: ByteSource, entry: ZipEntry): Promise<Window> {
    const head = LOCAL_SIZE + Buffer.byteLength(entry.name) + 128;
    const whole = entry.size <= SMALL_ENTRY ? head + entry.size + DESCRIPTOR64_SIZE : head;
    const bytes = Buffer.allocUnsafe(Math.min(whole, source.size - entry.headerAt));
    await source.read(bytes, entry.headerAt);
    return new Window(source, entry.headerAt, bytes);
  }

  async take(position: number, length: number): Promise<Buffer> {
    const start = position - this.at;
    if (start + length <= this.bytes.length) return this.bytes.subarray(start, start + length);
    const bytes = Buffer.allocUnsafe(length);
    await this.source.read(bytes, position);
    return bytes;
  }

  async copy(target: Uint8Array, position: number): Promise<void> {
    const start = position - this.at;
    if (start + target.byteLength <= this.bytes.length) target.set(this.bytes.subarray(start, start + target.byteLength));
    else await this.source.read(target, position);
  }
}

/** Fills `target` from a window, and gives the CRC-32 of what was read. */
async function copyChecked(window: Window, target: StorageBytes, start: number): Promise<number> {
  let crc = 0;
  let position = start;
  for (const part of target) {
    await window.copy(part, position);
    crc = crc32(part, crc);
    position += part.byteLength;
  }
  return crc;
}

function hex(crc: number): string {
  return crc.toString(16).padStart(8, "0");
}

/** Finds the end record, which must be the last thing in the file, and the zip64 one before it. */
async function findDirectory(source: ByteSource): Promise<{ count: number; start: number; size: number }> {
  const site = { file: source.name };
  const broken = (offset: number, reason: string): CheckpointError =>
    new CheckpointError(site, offset, `${reason}; the zip is damaged or cut short (copy or download it again)`);
  const tail = Buffer.alloc(Math.min(source.size, END_SIZE + SENTINEL16 + LOCATOR_SIZE));
  const tailAt = source.size - tail.length;
  await source.read(tail, tailAt);
  let end = -1;
  for (let at = tail.length - END_SIZE; at >= 0 && end < 0; at--) {
    if (tail.readUInt32LE(at) === Signature.END && at + END_SIZE + tail.readUInt16LE(at + 20) === tail.length) end = at;
  }
  if (end < 0) throw broken(source.size, "no end-of-directory record ends the file");
  if (tail.readUInt16LE(end + 4) !== 0 || tail.readUInt16LE(end + 6) !== 0) throw broken(tailAt + end, "the zip has several parts");
  let count = tail.readUInt16LE(end + 10);
  let size = tail.readUInt32LE(end + 12);
  let start = tail.readUInt32LE(end + 16);
  if (tail.readUInt16LE(end + 8) !== count) throw broken(tailAt + end, "the zip has several parts");
  let directoryEnd = tailAt + end;
  const locator = end - LOCATOR_SIZE;
  if (locator >= 0 && tail.readUInt32LE(locator) === Signature.LOCATOR64) {
    const recordAt = toNumber(tail.readBigUInt64LE(locator + 8));
    if (recordAt + END64_SIZE !== tailAt + locator) throw broken(tailAt + locator, "the zip64 end record is not where its locator says");
    const record = Buffer.alloc(END64_SIZE);
    await source.read(record, recordAt);
    if (record.readUInt32LE(0) !== Signature.END64 || toNumber(record.readBigUInt64LE(4)) !== END64_SIZE - 12) {
      throw broken(recordAt, "the zip64 end record is not one");
    }
    const counts = [count, size, start];
    const wide = [32, 40, 48].map((field) => toNumber(record.readBigUInt64LE(field)));
    const agree = wide.every((value, i) => value === counts[i] || counts[i] === (i === 0 ? SENTINEL16 : SENTINEL32));
    if (!agree || toNumber(record.readBigUInt64LE(24)) !== wide[0]) throw broken(recordAt, "the zip's two end records differ");
    [count, size, start] = wide as [number, number, number];
    directoryEnd = recordAt;
  } else if (count === SENTINEL16 || size === SENTINEL32 || start === SENTINEL32) {
    throw broken(tailAt + end, "the zip64 end record is missing");
  }
  if (start + size !== directoryEnd) throw broken(directoryEnd, `the zip directory (${size} bytes at ${start}) does not end here`);
  return { count, start, size };
}

function parseDirectory(directory: Buffer, count: number, start: number, file: string): Map<string, ZipEntry> {
  const entries = new Map<string, Omit<ZipEntry, "limitAt">>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    const fault = (reason: string, name?: string): CheckpointError => new CheckpointError({ file, entry: name }, start + at, reason);
    if (at + CENTRAL_SIZE > directory.length || directory.readUInt32LE(at) !== Signature.CENTRAL) {
      throw fault(`the zip directory ends after ${i} of ${count} entries; the file is damaged`);
    }
    const flags = directory.readUInt16LE(at + 8);
    const method = directory.readUInt16LE(at + 10);
    const nameLength = directory.readUInt16LE(at + 28);
    const extraLength = directory.readUInt16LE(at + 30);
    const nameAt = at + CENTRAL_SIZE;
    const next = nameAt + nameLength + extraLength + directory.readUInt16LE(at + 32);
    if (next > directory.length) throw fault(`the zip directory ends inside entry ${i} of ${count}; the file is damaged`);
    const name = directory.toString("utf8", nameAt, nameAt + nameLength);
    if (!Buffer.from(name, "utf8").equals(directory.subarray(nameAt, nameAt + nameLength))) throw fault("an entry's name is not UTF-8");
    const badName = nameFault(name);
    if (badName !== null) throw fault(`the entry's name ${badName}; a checkpoint has no such entry, so nothing of it is read`, name);
    if (entries.has(name)) throw fault("the zip has two entries of this name; readers would disagree about which one counts", name);
    if ((flags & 1) !== 0) throw fault("the entry is encrypted; decrypt the file first", name);
    if (method !== 0) {
      throw fault(
        `the entry is compressed (method ${method}); torch.save stores entries: zip it again with "zip -0"`, name,
      );
    }
    if ((flags & ~(FLAG_DESCRIPTOR | FLAG_UTF8)) !== 0) throw fault(`the entry has unknown flags 0x${flags.toString(16)}`, name);
    const fields = {
      packed: directory.readUInt32LE(at + 20), unpacked: directory.readUInt32LE(at + 24), headerAt: directory.readUInt32LE(at + 42),
    };
    const extra = directory.subarray(nameAt + nameLength, nameAt + nameLength + extraLength);
    if (applyZip64(extra, [["unpacked", fields], ["packed", fields], ["headerAt", fields]]) === null) {
      throw fault("the entry's zip64 field is missing or wrong; the file is damaged", name);
    }
    if (directory.readUInt16LE(at + 34) !== 0) throw fault("the entry lies in another part of the zip", name);
    if (fields.packed !== fields.unpacked) {
      throw fault(
        `the entry is stored, yet says that ${fields.packed} bytes become ${fields.unpacked}; the file is damaged or hostile`, name,
      );
    }
    if (fields.headerAt + LOCAL_SIZE + nameLength + fields.packed > start) {
      throw fault(
        `the entry claims ${fields.packed} bytes at ${fields.headerAt}, beyond the zip directory at ${start}; the file is damaged`, name,
      );
    }
    entries.set(name, { name, size: fields.unpacked, crc: directory.readUInt32LE(at + 16), headerAt: fields.headerAt, flags });
    at = next;
  }
  if (at !== directory.length) throw new CheckpointError({ file }, start + at, "the zip directory has bytes that belong to no entry");
  return withLimits(entries, start, file);
}

/** Why a name may not be in a checkpoint, or null. Nothing is ever written under these names; the check is against confusion. */
function nameFault(name: string): string | null {
  if (name === "") return "is empty";
  if (name.includes("\0")) return "holds a NUL";
  if (name.includes("\\")) return "holds a backslash";
  if (name.startsWith("/") || /^[a-z]:/i.test(name)) return "is absolute";
  const parts = name.replace(/\/$/, "").split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) return `(${printable(name)}) climbs out of its folder`;
  return null;
}

/**
 * Replaces the fields that are at their 32-bit limit by those of the zip64 extra field, in the order the format gives. Null when that
 * field is missing, too short or beyond 2^53, or when the extra data are malformed.
 */
function applyZip64<K extends string>(extra: Buffer, fields: [K, Record<K, number>][]): true | null {
  let wide: Buffer | null = null;
  for (let at = 0; at < extra.length;) {
    if (at + 4 > extra.length) return null;
    const end = at + 4 + extra.readUInt16LE(at + 2);
    if (end > extra.length) return null;
    if (extra.readUInt16LE(at) === 1) {
      if (wide !== null) return null;
      wide = extra.subarray(at + 4, end);
    }
    at = end;
  }
  let used = 0;
  for (const [key, record] of fields) {
    if (record[key] !== SENTINEL32) continue;
    if (wide === null || used + 8 > wide.length) return null;
    const value = toNumber(wide.readBigUInt64LE(used));
    if (value > Number.MAX_SAFE_INTEGER) return null;
    record[key] = value;
    used += 8;
  }
  return true;
}

/** Gives each entry the position of what follows it. They may touch but not overlap: overlapping ones make a small file look large. */
function withLimits(entries: Map<string, Omit<ZipEntry, "limitAt">>, directoryAt: number, file: string): Map<string, ZipEntry> {
  const byPosition = [...entries.values()].sort((a, b) => a.headerAt - b.headerAt);
  for (const [i, entry] of byPosition.entries()) {
    const limitAt = byPosition[i + 1]?.headerAt ?? directoryAt;
    if (entry.headerAt + LOCAL_SIZE + Buffer.byteLength(entry.name) + entry.size > limitAt) {
      throw new CheckpointError(
        { file, entry: entry.name }, entry.headerAt, "the entry overlaps the one behind it; the file is damaged or hostile",
      );
    }
    (entry as { limitAt?: number }).limitAt = limitAt;
  }
  return entries as Map<string, ZipEntry>;
}

/** Values beyond 2^53 lose precision, and fail every check against the file's size that follows. */
function toNumber(value: bigint): number {
  return Number(value);
}
