import { open, type FileHandle } from "node:fs/promises";
import type { WritableFile } from "./fileLayer.js";

/** Bytes after which those written so far are sent on to the disk: large enough for its full speed. */
const WRITE_BACK_BYTES = 64 * 2 ** 20;

/**
 * A new file on disk. What is written goes on to the disk while the program writes more, so that `sync` has little left to wait for:
 * 1.7 GB take 0.8 s in place of 1.0 (write 0.5, fsync 0.5).
 */
export class DiskFile implements WritableFile {
  #waiting = 0;
  #writeBack: Promise<void> | null = null;
  /** The system tells of a failed write-back only once, perhaps to `#writeBack`. */
  #failure: { error: unknown } | null = null;

  private constructor(private readonly handle: FileHandle) {}

  /** Throws the system's error where there is a file of that name. */
  static async create(path: string): Promise<DiskFile> {
    return new DiskFile(await open(path, "wx"));
  }

  async write(bytes: Uint8Array): Promise<number> {
    this.#throwFailure();
    const { bytesWritten } = await this.handle.write(bytes, 0, bytes.byteLength, null);
    this.#waiting += bytesWritten;
    if (this.#waiting >= WRITE_BACK_BYTES && this.#writeBack === null) {
      this.#waiting = 0;
      this.#writeBack = this.handle.datasync().catch((error: unknown) => {
        this.#failure ??= { error };
      }).finally(() => (this.#writeBack = null));
    }
    return bytesWritten;
  }

  async sync(): Promise<void> {
    await this.#writeBack;
    this.#throwFailure();
    await this.handle.sync();
  }

  async close(): Promise<void> {
    await this.#writeBack;
    await this.handle.close();
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
