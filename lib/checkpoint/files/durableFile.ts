import { dirname } from "node:path";
import { diskFiles, errorCode, type FileLayer } from "./fileLayer.js";
import { temporaryPath } from "./temporaryFile.js";

export { diskFiles, errorCode, type FileFacts, type FileLayer, type WritableFile } from "./fileLayer.js";

/** Where bytes go, one write after another. */
export interface ByteSink {
  /** Bytes written so far. */
  readonly position: number;
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Writes a file so that, whenever the program or the machine stops, `path` holds either all of the old content or all of the new:
 * a temporary file in the same folder, fsync, rename, fsync of the folder. When `fill` or any step before the rename fails, the
 * temporary file is removed, `path` is as it was, and the error is thrown on.
 *
 * A symbolic link is followed: its target is replaced, the link stays.
 */
export async function writeDurably(path: string, fill: (sink: ByteSink) => Promise<void>, files: FileLayer = diskFiles): Promise<void> {
  const target = await files.resolve(path).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return path;
    throw error;
  });
  await putInPlace(target, (temporary) => writeFile(temporary, fill, files), files);
}

/**
 * Makes something under a temporary name with `make`, renames it to `target` and fsyncs the folder. When `make` or the rename fails,
 * what there is under the temporary name is removed and `target` is as it was.
 */
export async function putInPlace(target: string, make: (temporary: string) => Promise<void>, files: FileLayer): Promise<void> {
  const temporary = temporaryPath(target);
  try {
    await make(temporary);
    await files.rename(temporary, target);
  } catch (error) {
    // The first error is the one to tell; a failing removal leaves a hidden file, never a half checkpoint.
    await files.remove(temporary).catch(() => undefined);
    throw error;
  }
  await files.syncFolder(dirname(target));
}

/** Writes a new file, its content safe from a power cut, its name not yet. */
export async function writeFile(path: string, fill: (sink: ByteSink) => Promise<void>, files: FileLayer): Promise<void> {
  const file = await files.create(path);
  try {
    let position = 0;
    await fill({
      get position() {
        return position;
      },
      async write(bytes) {
        for (let done = 0; done < bytes.byteLength;) {
          const written = await file.write(done === 0 ? bytes : bytes.subarray(done));
          if (written <= 0) throw Object.assign(new Error("EIO: the disk takes no more bytes and gives no reason, write"), { code: "EIO" });
          done += written;
        }
        position += bytes.byteLength;
      },
    });
    await file.sync();
  } finally {
    await file.close();
  }
}
