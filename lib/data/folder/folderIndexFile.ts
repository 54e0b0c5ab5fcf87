import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { imageEndings } from "./imageEndings.js";
import { PackedStrings } from "./packedStrings.js";
import type { FolderIdentity } from "./scanFolder.js";

/** Of the file's format. What else the content depends on, such as the endings, is in the header. */
const version = 1;
/** Begins every record. Another machine's byte order shows in it. */
const magic = 0x4d4f434f;

/** What an index knows of a folder. */
export interface FolderIndex {
  /** Relative paths of the folders, in the order of `FolderScan`. */
  readonly folders: PackedStrings;
  /** Images in each folder. */
  readonly counts: Uint32Array;
  /** Names of the images, folder by folder. */
  readonly names: PackedStrings;
}

/** What must be as it was for the index to hold. */
export interface IndexConditions {
  readonly identities: readonly FolderIdentity[];
  readonly brokenLinks: PackedStrings;
}

interface Header {
  version: number;
  endings: string;
  /** Real path of the folder. */
  root: string;
  folders: number;
  brokenLinks: number;
  names: number;
}

export async function writeIndexFile(file: FileHandle, root: string, index: FolderIndex, conditions: IndexConditions): Promise<void> {
  const { folders, counts, names } = index;
  const { identities, brokenLinks } = conditions;
  const header: Header = {
    version, endings: [...imageEndings].join(" "), root, folders: folders.length, brokenLinks: brokenLinks.length, names: names.length,
  };
  await writeRecord(file, Buffer.from(JSON.stringify(header)));
  await writeRecord(file, BigInt64Array.from(identities.flatMap(({ inode, modified, changed }) => [inode, modified, changed])));
  await writeRecord(file, counts);
  for (const strings of [folders, brokenLinks, names]) {
    for (const block of strings.blocks()) {
      await writeRecord(file, block.ends);
      await writeRecord(file, block.bytes);
    }
  }
}

/** Reads an index; the names of the images only once `holds` has said that the rest is as it was. `null` if it does not hold. */
export async function readIndexFile(
  file: FileHandle, root: string, holds: (folders: PackedStrings, conditions: IndexConditions) => Promise<boolean>,
): Promise<FolderIndex | null> {
  const reader = await RecordReader.begin(file);
  const header = JSON.parse(Buffer.from(await reader.next()).toString()) as Header;
  if (header.version !== version || header.root !== root || header.endings !== [...imageEndings].join(" ")) return null;
  const times = new BigInt64Array(await reader.next());
  const counts = new Uint32Array(await reader.next());
  const folders = await reader.strings(header.folders);
  const brokenLinks = await reader.strings(header.brokenLinks);
  const identities = Array.from({ length: folders.length }, (_, i) => ({
    inode: times[3 * i]!, modified: times[3 * i + 1]!, changed: times[3 * i + 2]!,
  }));
  if (!(await holds(folders, { identities, brokenLinks }))) return null;
  return { folders, counts, names: await reader.strings(header.names) };
}

/** A record: magic, CRC and length of what follows, all in the machine's byte order. */
async function writeRecord(file: FileHandle, content: NodeJS.ArrayBufferView): Promise<void> {
  await file.writev([Uint32Array.of(magic, crc32(content), content.byteLength), content]);
}

/** Reads records; throws for a damaged one. */
class RecordReader {
  #position = 0;

  private constructor(private readonly file: FileHandle, private readonly size: number) {}

  static async begin(file: FileHandle): Promise<RecordReader> {
    return new RecordReader(file, (await file.stat()).size);
  }

  async next(): Promise<ArrayBuffer> {
    const [given, crc, length] = new Uint32Array(await this.#read(12));
    if (given !== magic) throw new Error("not a record");
    const content = await this.#read(length!);
    if (crc32(new Uint8Array(content)) !== crc) throw new Error("damaged");
    return content;
  }

  async strings(length: number): Promise<PackedStrings> {
    const strings = PackedStrings.empty();
    while (strings.length < length) {
      strings.append({ ends: new Uint32Array(await this.next()), bytes: Buffer.from(await this.next()) });
    }
    return strings;
  }

  async #read(length: number): Promise<ArrayBuffer> {
    if (this.#position + length > this.size) throw new Error("cut off");
    const buffer = new ArrayBuffer(length);
    const { bytesRead } = await this.file.read(new Uint8Array(buffer), 0, length, this.#position);
    if (bytesRead < length) throw new Error("cut off");
    this.#position += length;
    return buffer;
  }
}
