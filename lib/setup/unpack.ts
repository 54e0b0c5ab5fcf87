import { createWriteStream } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32 } from "node:zlib";
import yauzl, { type Entry, type ZipFile } from "yauzl";
import { ArchiveError } from "./errors.js";

/** How to unpack. */
export interface UnpackOptions {
  /** Which files to take, by their path in the archive. Default: all. */
  readonly wanted?: (path: string) => boolean;
  /** Called with the number of bytes written since the last call. */
  readonly onBytes?: (bytes: number) => void;
}

// A wheel has ten thousand small headers: several at once hide the wait for the disk.
const WORKERS = 8;
const SYMBOLIC_LINK = 0o120000;
const FILE_TYPE = 0o170000;

/** The files of a zip archive: their paths and unpacked sizes. */
export async function listArchive(archive: string): Promise<{ path: string; bytes: number }[]> {
  const zip = await openZip(archive);
  try {
    return (await entriesOf(zip, archive)).map((entry) => ({ path: entry.fileName, bytes: entry.uncompressedSize }));
  } finally {
    zip.close();
  }
}

/**
 * Unpacks a zip archive (a wheel is one) into a folder, and forces every file to the disk. Checks each file's CRC-32.
 *
 * @throws {ArchiveError} for a damaged archive, a path that leads out of the folder, a symbolic link, a path that comes twice.
 */
export async function unpack(archive: string, folder: string, { wanted, onBytes }: UnpackOptions = {}): Promise<void> {
  const zip = await openZip(archive);
  try {
    const files = (await entriesOf(zip, archive)).filter((entry) => !entry.fileName.endsWith("/"));
    // Nothing is written unless every path is sound.
    const paths = new Set<string>();
    for (const entry of files) {
      assertSafe(entry, folder, archive);
      if (paths.has(entry.fileName)) throw new ArchiveError(`${archive} has the file ${entry.fileName} twice. Do not use this archive`);
      paths.add(entry.fileName);
    }
    const queue = files.filter((entry) => !wanted || wanted(entry.fileName)).sort((a, b) => b.compressedSize - a.compressedSize);
    const folders = new Set([folder, ...queue.map((entry) => dirname(join(folder, entry.fileName)))]);
    for (const each of folders) await mkdir(each, { recursive: true });
    const work = async (): Promise<void> => {
      try {
        for (let entry = queue.shift(); entry; entry = queue.shift()) await writeEntry(zip, entry, folder, archive, onBytes);
      } catch (error) {
        queue.length = 0; // the others stop too
        throw error;
      }
    };
    const finished = await Promise.allSettled(Array.from({ length: WORKERS }, work));
    const failed = finished.find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
    for (const each of folders) await syncFolder(each);
  } finally {
    zip.close();
  }
}

/** Forces a folder's own entries to the disk. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return; // folders cannot be opened there
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function openZip(archive: string): Promise<ZipFile> {
  try {
    return await yauzl.openPromise(archive, { lazyEntries: true, autoClose: false });
  } catch (error) {
    throw damaged(archive, error);
  }
}

async function entriesOf(zip: ZipFile, archive: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  try {
    for await (const entry of zip.eachEntry()) entries.push(entry);
  } catch (error) {
    throw damaged(archive, error);
  }
  return entries;
}

function assertSafe(entry: Entry, folder: string, archive: string): void {
  const target = resolve(folder, entry.fileName);
  if (!target.startsWith(resolve(folder) + sep)) {
    throw new ArchiveError(`${archive} has a file that leads out of its folder: ${entry.fileName}. Do not use this archive`);
  }
  if (((entry.externalFileAttributes >>> 16) & FILE_TYPE) === SYMBOLIC_LINK) {
    throw new ArchiveError(`${archive} has a symbolic link (${entry.fileName}), which no libtorch archive needs. Do not use this archive`);
  }
}

async function writeEntry(zip: ZipFile, entry: Entry, folder: string, archive: string, onBytes?: (bytes: number) => void): Promise<void> {
  let checksum = 0;
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      checksum = crc32(chunk, checksum);
      onBytes?.(chunk.length);
      done(null, chunk);
    },
  });
  const executable = (entry.externalFileAttributes >>> 16) & 0o111 ? 0o755 : 0o644;
  try {
    const source = await zip.openReadStreamPromise(entry);
    const target = createWriteStream(join(folder, entry.fileName), { flags: "wx", mode: executable, flush: true });
    await pipeline(source, check, target);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EEXIST") throw new ArchiveError(`${archive} has the file ${entry.fileName}, which another archive has brought already`);
    if (code && !code.startsWith("Z_")) throw error; // the disk's trouble, not the archive's
    throw damaged(archive, error);
  }
  if (checksum !== entry.crc32) throw damaged(archive, new Error(`${entry.fileName} has the wrong checksum`));
}

function damaged(archive: string, error: unknown): Error {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return new ArchiveError(`There is no file ${archive}`);
  if (code === "EACCES" || code === "EISDIR") return new ArchiveError(`${archive} cannot be read (${code})`);
  return new ArchiveError(`${basename(archive)} is not a sound zip archive: ${message}. Get ${archive} again`);
}
