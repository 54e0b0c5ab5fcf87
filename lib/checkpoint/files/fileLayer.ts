import { createReadStream } from "node:fs";
import { link, lstat, mkdir, open, readdir, readlink, realpath, rename, symlink, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { DiskFile } from "./diskFile.js";

/** An open file of a `FileLayer`. */
export interface WritableFile {
  /**
   * Writes at the end. As the system's own write, it may take only the beginning of `bytes`.
   *
   * @returns how many bytes were written
   */
  write(bytes: Uint8Array): Promise<number>;
  /** Makes what was written survive a power cut; the file's name is the folder's matter. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** What lies at a path, links not followed. */
export interface FileFacts {
  kind: "file" | "folder" | "link" | "other";
  /** Time of the last change of the content, in milliseconds since 1970. */
  modified: number;
}

/**
 * The file operations of saving checkpoints, pointing at them and removing old ones. Every one of them goes through here, so that
 * the fault campaign can replace the disk and let each one fail. Errors are those of `node:fs`, with their `code`.
 */
export interface FileLayer {
  /** Creates a file; fails when there is one of that name. */
  create(path: string): Promise<WritableFile>;
  /** Replaces `to` at once, where there is one. */
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes a link that holds `target` as it stands. */
  symlink(target: string, path: string): Promise<void>;
  /** Gives a file a second name. */
  link(existing: string, path: string): Promise<void>;
  readLink(path: string): Promise<string>;
  /** The path with every link on it followed. */
  resolve(path: string): Promise<string>;
  read(path: string): AsyncIterable<Uint8Array>;
  /** Names in a folder, in no particular order. */
  list(folder: string): Promise<string[]>;
  /** Null where nothing lies. */
  look(path: string): Promise<FileFacts | null>;
  /** Makes a folder, and those above it, where they are missing; they survive a power cut. */
  makeFolder(path: string): Promise<void>;
  /** Makes what was created, renamed and removed inside the folder survive a power cut. */
  syncFolder(path: string): Promise<void>;
}

/** Waits between attempts to replace a file that a virus scanner or an indexer on Windows holds open, in milliseconds. */
const WINDOWS_RETRIES = [10, 50, 200, 500];
const HELD_OPEN: readonly unknown[] = ["EPERM", "EACCES", "EBUSY"];

async function replace(from: string, to: string): Promise<void> {
  for (const pause of process.platform === "win32" ? WINDOWS_RETRIES : []) {
    try {
      return await rename(from, to);
    } catch (error) {
      if (!HELD_OPEN.includes(errorCode(error))) throw error;
      await wait(pause);
    }
  }
  await rename(from, to);
}

/** What file systems answer that know no fsync of folders, some on networks; names are as safe there as they can be. */
const NO_FOLDER_SYNC: readonly unknown[] = ["EINVAL", "EBADF", "EISDIR", "ENOTSUP", "ENOSYS"];

async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return; // folders cannot be opened there, and renames are journalled
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } catch (error) {
    if (!NO_FOLDER_SYNC.includes(errorCode(error))) throw error;
  } finally {
    await handle.close();
  }
}

/** The real disk. */
export const diskFiles: FileLayer = {
  create: (path) => DiskFile.create(path),
  rename: replace,
  remove: unlink,
  symlink: (target, path) => symlink(target, path, "file"),
  link,
  readLink: (path) => readlink(path),
  resolve: (path) => realpath(path),
  read: (path) => createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>,
  list: (folder) => readdir(folder),
  async look(path) {
    try {
      const stats = await lstat(path);
      const kind = stats.isFile() ? "file" : stats.isDirectory() ? "folder" : stats.isSymbolicLink() ? "link" : "other";
      return { kind, modified: stats.mtimeMs };
    } catch (error) {
      if (errorCode(error) === "ENOENT") return null;
      throw error;
    }
  },
  async makeFolder(path) {
    const first = await mkdir(path, { recursive: true });
    if (first === undefined) return;
    // Each new folder is an entry of the one above it.
    for (let folder = resolve(path); ; folder = dirname(folder)) {
      await syncFolder(dirname(folder));
      if (folder === resolve(first) || folder === dirname(folder)) return;
    }
  },
  syncFolder,
};

/** The system's name of an error ("ENOSPC"), also of one that wraps it, or undefined. */
export function errorCode(error: unknown): string | undefined {
  // By shape, not by class: the errors of Node.js are of another realm than those of code that runs in a `vm` context.
  for (let each = error, depth = 0; typeof each === "object" && each !== null && depth < 8; each = (each as Error).cause, depth++) {
    const { code } = each as NodeJS.ErrnoException;
    if (typeof code === "string") return code;
  }
  return undefined;
}
