import { crc32 } from "node:zlib";
import { Signature, SENTINEL16, SENTINEL32 } from "../../lib/checkpoint/zip/zipFormat.js";

/** An entry of a zip that is being built, with what to do otherwise than a well-behaved program. */
export interface ModelEntry {
  readonly name: Buffer;
  readonly data: Uint8Array;
  /** CRC and sizes behind the data, zeros in the header. */
  readonly descriptor?: boolean;
  /** Sizes and position in zip64 fields. */
  readonly wide?: boolean;
  /** Bytes of padding in the local header's extra field. */
  readonly padding?: number;
  readonly comment?: Buffer;
  readonly extra?: Buffer;
  /** Position of another entry's header to claim instead of one's own. */
  readonly claimsPlaceOf?: number;
  /** Not in the directory. */
  readonly hidden?: boolean;
}

export interface ZipShape {
  readonly zip64End: boolean;
  readonly comment: Buffer;
  /** Bytes between the last entry and the directory, and before the first entry. */
  readonly gap: number;
  readonly directoryOrder?: readonly number[];
}

export const plainShape: ZipShape = { zip64End: false, comment: Buffer.alloc(0), gap: 0 };

/** Where a field lies, for overwriting it. */
export interface ZipField {
  readonly at: number;
  readonly width: number;
}

/** Appends little-endian fields to one buffer and remembers where they are. */
class Layout {
  bytes: Buffer;
  length = 0;
  readonly fields: ZipField[] = [];

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafe(capacity);
  }

  /** A directory that lists an entry several times is longer than what was foreseen. */
  #reserve(count: number): void {
    if (this.length + count > this.bytes.length) this.bytes = Buffer.concat([this.bytes, Buffer.alloc(this.bytes.length + count)]);
  }

  field(width: 2 | 4 | 8, value: number): void {
    this.#reserve(width);
    if (width === 8) this.bytes.writeBigUInt64LE(BigInt(value), this.length);
    else this.bytes.writeUIntLE(value, this.length, width);
    this.fields.push({ at: this.length, width });
    this.length += width;
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  zeros(count: number): void {
    this.#reserve(count);
    this.bytes.fill(0, this.length, this.length + count);
    this.length += count;
  }
}

/** The zip's bytes, with CRC-32s, sizes and positions right but for what the model asks. `fields` are those of the format's records. */
export function assembleZip(entries: readonly ModelEntry[], shape: ZipShape): { bytes: Buffer; fields: ZipField[] } {
  const capacity = entries.reduce(
    (sum, { name, data, comment, extra, padding }) =>
      sum + 2 * name.length + data.length + (comment?.length ?? 0) + 2 * (extra?.length ?? 0) + (padding ?? 0) + 200,
    shape.comment.length + shape.gap + 200,
  );
  const out = new Layout(capacity);
  const placed = entries.map((entry) => {
    const crc = crc32(entry.data);
    const at = out.length;
    local(out, entry, crc);
    return { entry, crc, at };
  });
  out.zeros(shape.gap);
  const start = out.length;
  const listed = (shape.directoryOrder ?? placed.map((_, i) => i)).map((i) => placed[i]).filter((item) => item !== undefined &&
    !item.entry.hidden);
  for (const item of listed) {
    const { entry, crc, at } = item as (typeof placed)[number];
    central(out, entry, crc, placed[entry.claimsPlaceOf ?? -1]?.at ?? at);
  }
  end(out, listed.length, start, shape);
  return { bytes: out.bytes.subarray(0, out.length), fields: out.fields };
}

function local(out: Layout, entry: ModelEntry, crc: number): void {
  const late = entry.descriptor === true;
  const size = entry.data.length;
  const wide = entry.wide === true && !late;
  out.field(4, Signature.LOCAL);
  out.field(2, wide ? 45 : 0);
  out.field(2, late ? 0x0808 : 0);
  out.field(2, 0); // method
  out.field(4, 0); // time and date
  out.field(4, late ? 0 : crc);
  out.field(4, late ? 0 : wide ? SENTINEL32 : size);
  out.field(4, late ? 0 : wide ? SENTINEL32 : size);
  out.field(2, entry.name.length);
  const padding = entry.padding === undefined ? 0 : entry.padding + 4;
  out.field(2, (wide ? 20 : 0) + padding + (entry.extra?.length ?? 0));
  out.append(entry.name);
  if (wide) {
    out.field(2, 1);
    out.field(2, 16);
    out.field(8, size);
    out.field(8, size);
  }
  if (entry.padding !== undefined) {
    out.field(2, 0x4246);
    out.field(2, entry.padding);
    out.zeros(entry.padding);
  }
  if (entry.extra !== undefined) out.append(entry.extra);
  out.append(entry.data);
  if (!late) return;
  out.field(4, Signature.DESCRIPTOR);
  out.field(4, crc);
  out.field(entry.wide ? 8 : 4, size);
  out.field(entry.wide ? 8 : 4, size);
}

function central(out: Layout, entry: ModelEntry, crc: number, at: number): void {
  const size = entry.data.length;
  out.field(4, Signature.CENTRAL);
  out.field(2, 0);
  out.field(2, entry.wide ? 45 : 0);
  out.field(2, entry.descriptor ? 0x0808 : 0);
  out.field(2, 0);
  out.field(4, 0);
  out.field(4, crc);
  out.field(4, entry.wide ? SENTINEL32 : size);
  out.field(4, entry.wide ? SENTINEL32 : size);
  out.field(2, entry.name.length);
  out.field(2, (entry.wide ? 28 : 0) + (entry.extra?.length ?? 0));
  out.field(2, entry.comment?.length ?? 0);
  out.field(2, 0); // part of the zip
  out.field(2, 0);
  out.field(4, 0);
  out.field(4, entry.wide ? SENTINEL32 : at);
  out.append(entry.name);
  if (entry.wide) {
    out.field(2, 1);
    out.field(2, 24);
    out.field(8, size);
    out.field(8, size);
    out.field(8, at);
  }
  if (entry.extra !== undefined) out.append(entry.extra);
  if (entry.comment !== undefined) out.append(entry.comment);
}

function end(out: Layout, count: number, start: number, { zip64End, comment }: ZipShape): void {
  const size = out.length - start;
  if (zip64End) {
    const at = out.length;
    out.field(4, Signature.END64);
    out.field(8, 44);
    out.field(2, 45);
    out.field(2, 45);
    out.field(4, 0);
    out.field(4, 0);
    for (const value of [count, count, size, start]) out.field(8, value);
    out.field(4, Signature.LOCATOR64);
    out.field(4, 0);
    out.field(8, at);
    out.field(4, 1);
  }
  out.field(4, Signature.END);
  out.field(2, 0);
  out.field(2, 0);
  out.field(2, zip64End ? SENTINEL16 : count);
  out.field(2, zip64End ? SENTINEL16 : count);
  out.field(4, zip64End ? SENTINEL32 : size);
  out.field(4, zip64End ? SENTINEL32 : start);
  out.field(2, comment.length);
  out.append(comment);
}

/** The stored entries of a well-formed zip, for seeds; empty when it is not one. */
export function entriesOf(bytes: Buffer): ModelEntry[] {
  const entries: ModelEntry[] = [];
  const endAt = bytes.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  if (endAt < 0) return entries;
  let at = bytes.readUInt32LE(endAt + 16);
  while (at + 46 <= bytes.length && bytes.readUInt32LE(at) === Signature.CENTRAL) {
    const size = bytes.readUInt32LE(at + 24);
    const nameLength = bytes.readUInt16LE(at + 28);
    const header = bytes.readUInt32LE(at + 42);
    if (header + 30 > bytes.length) break;
    const dataAt = header + 30 + bytes.readUInt16LE(header + 26) + bytes.readUInt16LE(header + 28);
    const name = bytes.subarray(at + 46, at + 46 + nameLength);
    // PyTorch's padding of up to 64 bytes is left out: it would only make inputs longer.
    if (dataAt + size <= bytes.length) entries.push({ name, data: bytes.subarray(dataAt, dataAt + size) });
    at += 46 + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  return entries;
}
