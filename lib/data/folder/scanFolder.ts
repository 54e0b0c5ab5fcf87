import type { BigIntStats, Dirent } from "node:fs";
import { opendir, readdir, realpath } from "node:fs/promises";
import { join, relative } from "node:path";
import { compareCodePoints } from "./codePoints.js";
import { ImageFolderError } from "../errors.js";
import { isImageName } from "./imageEndings.js";
import { PackedStrings } from "./packedStrings.js";
import { quickReaddir, quickStat } from "./quickFiles.js";
import { SortedNames } from "./sortedNames.js";

/** Folders in work at once. Node.js has four threads for files; the rest waits there, so that none of the four ever does. */
const foldersAtOnce = 16;
/** Links looked at together. */
const linksAtOnce = 256;
/**
 * A folder of more bytes than this, some hundred thousand entries, is listed part by part: at once, ten million entries would take more
 * than a gigabyte. Others are listed at once, which is three times as fast.
 */
const defaultBytesAtOnce = 1n << 22n;
/** What Node.js puts for bytes that are not UTF-8: a name with it leads nowhere. */
export const mangled = "\ufffd";

/** What tells a folder as it was from a changed one. A new, removed or renamed entry changes both times. */
export interface FolderIdentity {
  readonly inode: bigint;
  /** Times in nanoseconds since 1970. */
  readonly modified: bigint;
  readonly changed: bigint;
}

export interface ScannedFolder {
  /** Relative to the root, with slashes; `""` is the root. */
  readonly path: string;
  /** Which file system it is on. */
  readonly device: bigint;
  readonly identity: FolderIdentity;
  /** Names in the order of code points. */
  images: PackedStrings;
}

export interface FolderScan {
  /** In torchvision's order: classes by name, within a class by folder. Those without images are here too. */
  readonly folders: readonly ScannedFolder[];
  /** Symbolic links that lead nowhere, relative to the root. A folder may appear there later without a trace in the scanned ones. */
  readonly brokenLinks: readonly string[];
  /** When the scan began, in milliseconds since 1970. */
  readonly began: number;
}

/** The first part of a relative path. */
export function classOf(path: string): string {
  return path.split("/", 1)[0]!;
}

export function identityOf({ ino, mtimeNs, ctimeNs }: BigIntStats): FolderIdentity {
  return { inode: ino, modified: mtimeNs, changed: ctimeNs };
}

/** A folder to be listed, and those that it was reached through. */
interface Visit {
  path: string;
  /** Without symbolic links. */
  real: string;
  above: Visit | null;
}

/**
 * Lists the images of a folder and all below it, several folders at a time. Symbolic links are followed; one that leads to a folder above
 * itself is not gone round.
 *
 * @param bytesAtOnce folders of more bytes are listed part by part
 * @throws {ImageFolderError} when a folder cannot be read.
 */
export async function scanFolder(root: string, bytesAtOnce = defaultBytesAtOnce): Promise<FolderScan> {
  const began = Date.now();
  const folders: ScannedFolder[] = [];
  const brokenLinks: string[] = [];
  const waiting: Visit[] = [{ path: "", real: await realpath(root), above: null }];
  await new Promise<void>((resolve, reject) => {
    let working = 0;
    let failed = false;
    const visit = async (folder: Visit): Promise<void> => {
      try {
        await list(root, folder, { folders, waiting, brokenLinks, bytesAtOnce });
      } catch (error) {
        failed = true;
        reject(cannotRead(root, folder.path, error as Error));
      }
      working--;
      next();
    };
    const next = (): void => {
      if (failed) return;
      while (working < foldersAtOnce && waiting.length > 0) {
        working++;
        void visit(waiting.pop()!);
      }
      if (working === 0) resolve();
    };
    next();
  });
  const flat = folders.some((folder) => folder.path === "" && folder.images.length > 0);
  // By class first: as whole paths, "a b/x" would come before "a/x".
  folders.sort((a, b) =>
    (flat ? 0 : compareCodePoints(classOf(a.path), classOf(b.path))) || compareCodePoints(a.path, b.path));
  return { folders, brokenLinks, began };
}

function cannotRead(root: string, path: string, cause: Error): ImageFolderError {
  const folder = join(root, path);
  const where = relative(root, folder) === "" ? root : folder;
  const remedy = path.includes(mangled) ? "its name is not UTF-8: rename it" : "make it readable";
  return new ImageFolderError(`cannot read the folder ${where}: ${cause.message}; ${remedy} or move it out of ${root}`, { cause });
}

/** A scan on its way. */
interface Progress {
  readonly folders: ScannedFolder[];
  readonly brokenLinks: string[];
  /** Folders to be listed. */
  readonly waiting: Visit[];
  readonly bytesAtOnce: bigint;
}

/** Lists one folder. */
async function list(root: string, visit: Visit, { folders, waiting, brokenLinks, bytesAtOnce }: Progress): Promise<void> {
  const folder = join(root, visit.path);
  // Before the listing, so that a change during it shows later.
  const about = await quickStat(folder);
  const scanned: ScannedFolder = { path: visit.path, device: about.dev, identity: identityOf(about), images: PackedStrings.empty() };
  folders.push(scanned);
  for (let above = visit.above; above; above = above.above) if (above.real === visit.real) return;

  const inside = (name: string): string => (visit.path === "" ? name : `${visit.path}/${name}`);
  const images = new SortedNames();
  let anyMangled = false;
  const add = (name: string): void => {
    if (!isImageName(name)) return;
    if (name.includes(mangled)) anyMangled = true;
    else images.add(name);
  };
  const links: string[] = [];
  const follow = async (name: string): Promise<void> => {
    const target = await quickStat(join(folder, name)).catch(() => null);
    if (!target) brokenLinks.push(inside(name));
    if (target?.isDirectory()) waiting.push({ path: inside(name), real: await realpath(join(folder, name)), above: visit });
    // A broken link named like an image stays in the list: reading it says what is wrong.
    else add(name);
  };
  for await (const entries of entriesOf(folder, about.size <= bytesAtOnce)) {
    for (const entry of entries) {
      const { name } = entry;
      if (entry.isSymbolicLink()) links.push(name);
      else if (entry.isDirectory()) waiting.push({ path: inside(name), real: join(visit.real, name), above: visit });
      else add(name);
    }
    while (links.length > 0) await Promise.all(links.splice(-linksAtOnce).map(follow));
  }
  if (anyMangled) images.addBytes(await mangledImages(folder));
  scanned.images = images.sorted();
}

/** Names of images that a listing as text has spoilt. */
async function mangledImages(folder: string): Promise<Buffer[]> {
  const entries = await readdir(folder, { withFileTypes: true, encoding: "buffer" });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name).filter((name) => {
    const text = name.toString();
    return text.includes(mangled) && isImageName(text);
  });
}

async function* entriesOf(folder: string, atOnce: boolean): AsyncIterable<Dirent[]> {
  if (atOnce) return yield await quickReaddir(folder);
  let part: Dirent[] = [];
  for await (const entry of await opendir(folder, { bufferSize: 1024 })) {
    if (part.push(entry) < 1024) continue;
    yield part;
    part = [];
  }
  yield part;
}
