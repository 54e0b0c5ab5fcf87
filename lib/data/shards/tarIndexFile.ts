import { randomUUID } from "node:crypto";
import { mkdir, open, rename, rm, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { ShardError } from "./shardError.js";

/** Where the images of a plain tar file lie. */
export interface TarContents {
  names: string[];
  /** Of the images' bytes in the file. */
  offsets: number[];
  lengths: number[];
  labels: (number | null)[];
}

/** What is known of a tar file without its contents. */
export interface TarSummary {
  path: string;
  size: number;
  /** Nanoseconds since 1970, as text: it is above 2^53. */
  modified: string;
  images: number;
  /** Groups of members without an image. */
  skipped: number;
  /** Largest label plus one when every image has one; null otherwise. */
  classes: number | null;
}

/** A shard's place in an index file. */
export interface TarEntry extends TarSummary {
  offset: number;
  length: number;
}

interface Block {
  path: string;
  modified: string;
  contents: TarContents;
}

// A file holds one JSON text per shard, then the list of entries, then the list's length in 16 digits and this name.
const format = "moco-tar-index-1";
const trailerLength = 16 + format.length;

/** The entries of an index file; none when it is missing or damaged. */
export async function readEntries(file: string): Promise<TarEntry[]> {
  const entries = await withFile(file, async (handle) => {
    const { size } = await handle.stat();
    const trailer = await readText(handle, size - trailerLength, trailerLength);
    if (!trailer.endsWith(format)) return [];
    const length = Number(trailer.slice(0, 16));
    return JSON.parse(await readText(handle, size - trailerLength - length, length)) as TarEntry[];
  });
  return entries ?? [];
}

/** The contents of a shard; null when the file does not hold them (any more). */
export function readContents(file: string, entry: TarEntry): Promise<TarContents | null> {
  return withFile(file, async (handle) => {
    const { path, modified, contents } = JSON.parse(await readText(handle, entry.offset, entry.length)) as Block;
    return path === entry.path && modified === entry.modified ? contents : null;
  });
}

async function withFile<T>(file: string, read: (handle: FileHandle) => Promise<T | null>): Promise<T | null> {
  const handle = await open(file).catch(() => null);
  if (!handle) return null;
  try {
    return await read(handle);
  } catch {
    return null; // damaged: what it would have said is read from the shards again
  } finally {
    await handle.close();
  }
}

async function readText(handle: FileHandle, offset: number, length: number): Promise<string> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await handle.read(bytes, 0, length, offset);
  if (bytesRead < length) throw new RangeError("the index is too short");
  return bytes.toString("utf8");
}

/** Writes an index file beside its final place and moves it there when it is complete. */
export class TarIndexWriter {
  /** What was added, by path, where no file can be written. */
  readonly held: Map<string, TarContents> | null;
  readonly #file: string;
  readonly #temporary: string;
  readonly #handle: FileHandle | null;
  #position = 0;

  private constructor(file: string, temporary: string, handle: FileHandle | null) {
    this.#file = file;
    this.#temporary = temporary;
    this.#handle = handle;
    this.held = handle ? null : new Map();
  }

  static async open(file: string): Promise<TarIndexWriter> {
    const temporary = `${file}.${randomUUID()}`;
    const handle = await mkdir(dirname(file), { recursive: true }).then(() => open(temporary, "wx")).catch(() => null);
    return new TarIndexWriter(file, temporary, handle);
  }

  async add(summary: TarSummary, contents: TarContents): Promise<TarEntry> {
    this.held?.set(summary.path, contents);
    const { path, modified } = summary;
    return { ...summary, ...(await this.#write({ path, modified, contents } satisfies Block)) };
  }

  async finish(entries: readonly TarEntry[]): Promise<void> {
    const { length } = await this.#write(entries);
    await this.#write(null, `${String(length).padStart(16, "0")}${format}`);
    await this.#handle?.close();
    if (this.#handle) await rename(this.#temporary, this.#file);
  }

  async discard(): Promise<void> {
    await this.#handle?.close().catch(() => {});
    if (this.#handle) await rm(this.#temporary, { force: true });
  }

  async #write(value: unknown, text?: string): Promise<{ offset: number; length: number }> {
    if (!this.#handle) return { offset: 0, length: 0 };
    const bytes = Buffer.from(text ?? JSON.stringify(value));
    const offset = this.#position;
    this.#position += bytes.length;
    try {
      for (let written = 0; written < bytes.length;) {
        written += (await this.#handle.write(bytes, written, bytes.length - written, offset + written)).bytesWritten;
      }
    } catch (error) {
      throw new ShardError(
        this.#temporary,
        `the index of the shards cannot be written: ${(error as Error).message}; make room, or set MOCO_CACHE to another folder`,
        { cause: error },
      );
    }
    return { offset, length: bytes.length };
  }
}
