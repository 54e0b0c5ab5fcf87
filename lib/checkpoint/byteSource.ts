import { constants, readSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { CheckpointError, type CheckpointSite } from "./error.js";

/** Random access to a checkpoint's bytes. */
export interface ByteSource {
  /** Path or other name, for messages. */
  readonly name: string;
  readonly size: number;
  /** The open file's descriptor, where there is one. */
  readonly descriptor?: number;
  /** Fills all of `target` from `position`; throws `CheckpointError` when the source ends before. */
  read(target: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * A storage's memory, in parts: a typed array holds at most 4 GiB, a storage may be larger.
 */
export type StorageBytes = readonly Uint8Array[];

/** Pieces of at most `size` bytes, in order. */
export function* piecesOf(parts: StorageBytes, size: number): Generator<Uint8Array> {
  for (const part of parts) {
    for (let at = 0; at < part.byteLength; at += size) yield part.subarray(at, at + size);
  }
}

/**
 * Up to so many bytes are read at once, on this thread: 10 microseconds from the page cache, where a round trip through another thread
 * takes 50 and more, and checkpoints have hundreds of small entries.
 */
const SMALL_READ = 64 * 2 ** 10 + 512;

/** A checkpoint in a file. */
export class FileSource implements ByteSource {
  private constructor(readonly name: string, readonly size: number, private readonly handle: FileHandle) {}

  get descriptor(): number {
    return this.handle.fd;
  }

  /** Throws `CheckpointError` when `path` cannot be opened or is not a regular file. */
  static async open(path: string): Promise<FileSource> {
    let handle: FileHandle;
    try {
      // Without O_NONBLOCK, opening a named pipe that nobody writes to would wait for ever.
      handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const reason = code === "ENOENT" ? "there is no such file; check the path" : `it cannot be opened: ${(error as Error).message}`;
      throw new CheckpointError({ file: path }, null, reason, { cause: error });
    }
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) throw new CheckpointError({ file: path }, null, "it is not a regular file; give the path of a checkpoint");
      return new FileSource(path, stats.size, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    const { fd } = this.handle;
    let done = 0;
    while (done < target.byteLength) {
      const left = target.byteLength - done;
      const bytesRead = left <= SMALL_READ ?
        readSync(fd, target, done, left, position + done) :
        (await this.handle.read(target, done, left, position + done)).bytesRead;
      if (bytesRead === 0) throw endOfFile({ file: this.name }, position + done, left);
      done += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** A checkpoint that is in memory already. */
export class MemorySource implements ByteSource {
  readonly size: number;

  constructor(readonly name: string, private readonly bytes: Uint8Array) {
    this.size = bytes.byteLength;
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    if (position + target.byteLength > this.size) {
      throw endOfFile({ file: this.name }, this.size, position + target.byteLength - this.size);
    }
    target.set(this.bytes.subarray(position, position + target.byteLength));
  }

  async close(): Promise<void> {}
}

/** Fills `target`, one part after another, from `start`. */
export async function readParts(source: ByteSource, start: number, target: StorageBytes): Promise<void> {
  let position = start;
  for (const part of target) {
    await source.read(part, position);
    position += part.byteLength;
  }
}

export function endOfFile(site: CheckpointSite, offset: number, missing: number): CheckpointError {
  return new CheckpointError(
    site, offset, `the file ends here, with ${missing} more bytes expected; it is cut short (copy or download it again)`,
  );
}
