import { crc32 } from "node:zlib";
import { piecesOf, type StorageBytes } from "../byteSource.js";
import type { ByteSink } from "../files/durableFile.js";
import { SENTINEL16, SENTINEL32, Signature } from "./zipFormat.js";

/** PyTorch maps storages into memory straight from the file, and wants them aligned. */
export const ALIGNMENT = 64;
/** Bytes written at a time while their CRC is computed. */
const WRITE_CHUNK = 8 * 2 ** 20;
/** Smaller writes are gathered: of a checkpoint's entries most are small, and each has a header and a descriptor. */
const GATHER_BYTES = 256 * 2 ** 10;
/** UTF-8 names; CRC and sizes behind the data. */
const FLAGS = 0x0808;
const VERSION_ZIP64 = 45;

interface WrittenEntry {
  readonly name: Buffer;
  readonly size: number;
  readonly crc: number;
  readonly headerAt: number;
}

/**
 * Writes a zip as `torch.save` does: entries stored, their data aligned to 64 bytes by padding in the local header, a descriptor behind
 * each, zip64 fields where sizes or positions need them. Large data go straight to the sink; the CRC of one piece is computed while
 * the piece before it is being written.
 */
export class ZipWriter {
  readonly #entries: WrittenEntry[] = [];
  readonly #gathering = Buffer.allocUnsafeSlow(GATHER_BYTES);
  #gathered = 0;

  /** @param wideFrom - size or position from which zip64 fields are used; lower than the format's limit in tests only */
  constructor(private readonly sink: ByteSink, private readonly wideFrom = SENTINEL32) {}

  /** CRC-32 of each entry so far, in order. */
  get checksums(): readonly number[] {
    return this.#entries.map(({ crc }) => crc);
  }

  /** Appends an entry. `data` must not change until the promise settles. */
  async add(entryName: string, data: StorageBytes): Promise<void> {
    await this.addPieces(entryName, data.reduce((total, part) => total + part.byteLength, 0), piecesOf(data, WRITE_CHUNK));
  }

  /**
   * Appends an entry of `size` bytes that come in pieces. Each must stay as it is until the next but one is asked for: while one piece is
   * being written, the next one is made and its CRC computed.
   */
  async addPieces(entryName: string, size: number, pieces: Iterable<Uint8Array>): Promise<void> {
    const name = Buffer.from(entryName, "utf8");
    const headerAt = this.#position;
    const wide = size >= this.wideFrom;
    await this.#write(localHeader(name, size, wide, headerAt));
    let crc = 0;
    let writing: Promise<void> | null = null;
    for (const piece of pieces) {
      crc = crc32(piece, crc);
      await writing;
      writing = this.#write(piece);
    }
    await writing;
    await this.#write(descriptor(size, crc, wide));
    this.#entries.push({ name, size, crc, headerAt });
  }

  /** Writes the directory. Nothing can be added afterwards. */
  async finish(): Promise<void> {
    const start = this.#position;
    const directory = Buffer.concat(this.#entries.map((entry) => this.#centralHeader(entry)));
    await this.#write(directory);
    const count = this.#entries.length;
    const endAt = this.#position;
    const end = Buffer.alloc(56 + 20 + 22);
    end.writeUInt32LE(Signature.END64, 0);
    end.writeBigUInt64LE(44n, 4); // length of what follows
    end.writeUInt16LE(VERSION_ZIP64, 12);
    end.writeUInt16LE(VERSION_ZIP64, 14);
    end.writeBigUInt64LE(BigInt(count), 24);
    end.writeBigUInt64LE(BigInt(count), 32);
    end.writeBigUInt64LE(BigInt(directory.length), 40);
    end.writeBigUInt64LE(BigInt(start), 48);
    end.writeUInt32LE(Signature.LOCATOR64, 56);
    end.writeBigUInt64LE(BigInt(endAt), 64);
    end.writeUInt32LE(1, 72);
    end.writeUInt32LE(Signature.END, 76);
    end.writeUInt16LE(Math.min(count, SENTINEL16), 84);
    end.writeUInt16LE(Math.min(count, SENTINEL16), 86);
    end.writeUInt32LE(Math.min(directory.length, SENTINEL32), 88);
    end.writeUInt32LE(Math.min(start, SENTINEL32), 92);
    await this.#write(end);
    await this.#flush();
  }

  get #position(): number {
    return this.sink.position + this.#gathered;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#gathered + bytes.byteLength > GATHER_BYTES) await this.#flush();
    if (bytes.byteLength > GATHER_BYTES) return this.sink.write(bytes);
    this.#gathering.set(bytes, this.#gathered);
    this.#gathered += bytes.byteLength;
  }

  async #flush(): Promise<void> {
    if (this.#gathered > 0) await this.sink.write(this.#gathering.subarray(0, this.#gathered));
    this.#gathered = 0;
  }

  #centralHeader({ name, size, crc, headerAt }: WrittenEntry): Buffer {
    const wideFields: bigint[] = [];
    const narrow = (value: number): number => {
      if (value < this.wideFrom) return value;
      wideFields.push(BigInt(value));
      return SENTINEL32;
    };
    const unpacked = narrow(size);
    const packed = narrow(size);
    const position = narrow(headerAt);
    const header = Buffer.alloc(46 + name.length + (wideFields.length > 0 ? 4 + 8 * wideFields.length : 0));
    header.writeUInt32LE(Signature.CENTRAL, 0);
    header.writeUInt16LE(wideFields.length > 0 ? VERSION_ZIP64 : 0, 6);
    header.writeUInt16LE(FLAGS, 8);
    header.writeUInt32LE(crc, 16);
    header.writeUInt32LE(packed, 20);
    header.writeUInt32LE(unpacked, 24);
    header.writeUInt16LE(name.length, 28);
    header.writeUInt16LE(header.length - 46 - name.length, 30);
    header.writeUInt32LE(position, 42);
    name.copy(header, 46);
    if (wideFields.length > 0) writeZip64(header, 46 + name.length, wideFields);
    return header;
  }
}

function localHeader(name: Buffer, size: number, wide: boolean, headerAt: number): Buffer {
  const zip64Length = wide ? 20 : 0;
  const unpadded = 30 + name.length + zip64Length + 4;
  const padding = (ALIGNMENT - ((headerAt + unpadded) % ALIGNMENT)) % ALIGNMENT;
  const header = Buffer.alloc(unpadded + padding);
  header.writeUInt32LE(Signature.LOCAL, 0);
  header.writeUInt16LE(wide ? VERSION_ZIP64 : 0, 4);
  header.writeUInt16LE(FLAGS, 6);
  header.writeUInt16LE(name.length, 26);
  header.writeUInt16LE(header.length - 30 - name.length, 28);
  name.copy(header, 30);
  if (wide) {
    header.writeUInt32LE(SENTINEL32, 18);
    header.writeUInt32LE(SENTINEL32, 22);
    writeZip64(header, 30 + name.length, [BigInt(size), BigInt(size)]);
  }
  // PyTorch's own extra field: "FB", filled with Z.
  const paddingAt = unpadded - 4;
  header.write("FB", paddingAt, "latin1");
  header.writeUInt16LE(padding, paddingAt + 2);
  header.fill("Z", paddingAt + 4, undefined, "latin1");
  return header;
}

function descriptor(size: number, crc: number, wide: boolean): Buffer {
  const bytes = Buffer.alloc(wide ? 24 : 16);
  bytes.writeUInt32LE(Signature.DESCRIPTOR, 0);
  bytes.writeUInt32LE(crc, 4);
  if (wide) {
    bytes.writeBigUInt64LE(BigInt(size), 8);
    bytes.writeBigUInt64LE(BigInt(size), 16);
  } else {
    bytes.writeUInt32LE(size, 8);
    bytes.writeUInt32LE(size, 12);
  }
  return bytes;
}

function writeZip64(header: Buffer, at: number, fields: readonly bigint[]): void {
  header.writeUInt16LE(1, at);
  header.writeUInt16LE(8 * fields.length, at + 2);
  for (const [i, field] of fields.entries()) header.writeBigUInt64LE(field, at + 4 + 8 * i);
}
