import { randomBytes } from "node:crypto";
import { open, realpath, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Where bytes go, one write after another. */
export interface ByteSink {
  /** Bytes written so far. */
  readonly position: number;
  write(bytes: Uint8Array): Promise<void>;
}

/** An open file of a `FileLayer`. */
export interface WritableFile {
  /** Writes all of `bytes` at the end. */
  append(bytes: Uint8Array): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The file operations that durable writing needs; tests replace them to inject faults. */
export interface FileLayer {
  /** Creates a file; fails when there is one of that name. */
  create(path: string): Promise<WritableFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes a rename inside the folder survive a power cut. */
  syncFolder(path: string): Promise<void>;
}

export const diskFiles: FileLayer = {
  async create(path) {
    const handle = await open(path, "wx");
    return {
      async append(bytes) {
        for (let done = 0; done < bytes.byteLength;) {
          done += (await handle.write(bytes, done, bytes.byteLength - done, null)).bytesWritten;
        }
      },
      sync: () => handle.sync(),
      close: () => handle.close(),
    };
  },
  rename,
  remove: unlink,
  async syncFolder(path) {
    if (process.platform === "win32") return; // folders cannot be opened there, and renames are journalled
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/**
 * Writes a file so that, whenever the program or the machine stops, `path` holds either all of the old content or all of the new:
 * a temporary file in the same folder, fsync, rename, fsync of the folder. When `fill` or any step before the rename fails, the
 * temporary file is removed, `path` is as it was, and the error is thrown on.
 *
 * A symbolic link is followed: its target is replaced, the link stays.
 */
export async function writeDurably(path: string, fill: (sink: ByteSink) => Promise<void>, files: FileLayer = diskFiles): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const folder = dirname(target);
  const temporary = join(folder, `.${basename(target)}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
  const file = await files.create(temporary);
  try {
    let position = 0;
    try {
      await fill({
        get position() {
          return position;
        },
        async write(bytes) {
          await file.append(bytes);
          position += bytes.byteLength;
        },
      });
      await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(temporary, target);
  } catch (error) {
    // The first error is the one to tell; a failing removal leaves a hidden file, never a half checkpoint.
    await files.remove(temporary).catch(() => undefined);
    throw error;
  }
  await files.syncFolder(folder);
}
