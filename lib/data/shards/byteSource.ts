import type { FileHandle } from "node:fs/promises";

/** Bytes that are read from front to back. */
export interface ByteSource {
  /** How many bytes were read or skipped. */
  readonly position: number;
  /** Length of the whole in bytes, or null where only its end tells. */
  readonly size: number | null;
  /** The next `length` bytes, the caller's to keep; fewer only at the end. */
  read(length: number): Promise<Uint8Array>;
  /** Leaves bytes out; false when the source ends before. */
  skip(length: number): Promise<boolean>;
}

const smallestWindow = 16 * 1024;
const largestWindow = 1024 * 1024;

/** A file. Skipping costs nothing; small pieces that follow each other are read ahead, up to 1 MiB at once. */
export class FileBytes implements ByteSource {
  position = 0;
  readonly #file: FileHandle;
  #window: Uint8Array = new Uint8Array(0);
  #windowStart = 0;
  #windowSize = smallestWindow;

  constructor(file: FileHandle, readonly size: number) {
    this.#file = file;
  }

  async read(length: number): Promise<Uint8Array> {
    length = Math.min(length, this.size - this.position);
    if (this.position < this.#windowStart || this.position + length > this.#windowStart + this.#window.length) {
      await this.#load(length);
    }
    const from = this.position - this.#windowStart;
    const bytes = this.#window.slice(from, from + length);
    this.position += bytes.length;
    return bytes;
  }

  skip(length: number): Promise<boolean> {
    const inside = this.position + length <= this.size;
    this.position = Math.min(this.position + length, this.size);
    return Promise.resolve(inside);
  }

  /** Fills the window from the position on; it grows while reads stay close to each other, as headers of small members do. */
  async #load(length: number): Promise<void> {
    const gap = this.position - (this.#windowStart + this.#window.length);
    this.#windowSize = gap <= this.#windowSize ? Math.min(2 * this.#windowSize, largestWindow) : smallestWindow;
    const wanted = Math.min(Math.max(length, this.#windowSize), this.size - this.position);
    const window = new Uint8Array(wanted);
    let filled = 0;
    while (filled < wanted) {
      const { bytesRead } = await this.#file.read(window, filled, wanted - filled, this.position + filled);
      if (bytesRead === 0) break; // the file became shorter
      filled += bytesRead;
    }
    this.#window = window.subarray(0, filled);
    this.#windowStart = this.position;
  }
}

/** What comes in chunks, such as a command's output. A chunk is asked for only when it is needed, so the other side waits meanwhile. */
export class ChunkBytes implements ByteSource {
  position = 0;
  readonly size = null;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #ended = false;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Whether the last byte was seen. */
  get ended(): boolean {
    return this.#ended;
  }

  async read(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let filled = 0;
    while (filled < length && (await this.#fill())) {
      const part = this.#take(length - filled);
      bytes.set(part, filled);
      filled += part.length;
    }
    return filled < length ? bytes.slice(0, filled) : bytes;
  }

  async skip(length: number): Promise<boolean> {
    while (length > 0 && (await this.#fill())) length -= this.#take(length).length;
    return length === 0;
  }

  #take(most: number): Uint8Array {
    const part = this.#chunk.subarray(0, most);
    this.#chunk = this.#chunk.subarray(part.length);
    this.position += part.length;
    return part;
  }

  /** Makes sure that there is a chunk; false at the end. */
  async #fill(): Promise<boolean> {
    while (this.#chunk.length === 0 && !this.#ended) {
      const next = await this.#chunks.next();
      if (next.done) this.#ended = true;
      else this.#chunk = next.value;
    }
    return this.#chunk.length > 0;
  }
}
