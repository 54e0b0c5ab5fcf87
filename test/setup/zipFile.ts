import { writeFileSync } from "node:fs";
import { crc32, deflateRawSync } from "node:zlib";

/** A file to put into an archive, sound or not. */
export interface ZipMember {
  readonly path: string;
  readonly content: string | Uint8Array;
  /** Unix mode, e.g. 0o100755 or 0o120777 (a symbolic link). */
  readonly mode?: number;
  /** A checksum that is not the content's. */
  readonly wrongCrc?: boolean;
}

/** Writes a zip archive byte by byte: well-kept writers refuse what the tests need, such as a path that leads out. */
export function writeZip(file: string, members: readonly ZipMember[]): string {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { path, content, mode = 0o100644, wrongCrc = false } of members) {
    const name = Buffer.from(path);
    const data = Buffer.from(content);
    const packed = deflateRawSync(data);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2); // UTF-8 names
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE((crc32(data) ^ (wrongCrc ? 1 : 0)) >>> 0, 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((mode << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.from([0x50, 0x4b, 1, 2, 20, 3]), common, tail, name);
    parts.push(Buffer.from([0x50, 0x4b, 3, 4]), common, name, packed);
    offset += 30 + name.length + packed.length;
  }
  const size = directory.reduce((sum, each) => sum + each.length, 0);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(offset, 16);
  writeFileSync(file, Buffer.concat([...parts, ...directory, end]));
  return file;
}
