import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readdir, realpath, rename, rm, stat, statfs, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { readIndexFile, writeIndexFile, type FolderIndex, type IndexConditions } from "./folderIndexFile.js";
import { PackedStrings } from "./packedStrings.js";
import { quickStat } from "./quickFiles.js";
import { identityOf, type FolderScan } from "./scanFolder.js";

export type { FolderIndex } from "./folderIndexFile.js";

/** A folder that changed this shortly before its scan may change once more without another time: two seconds is the grain of FAT. */
const grainMs = 2000;
/** Folders looked at together; Node.js has four threads for files. */
const foldersAtOnce = 256;
/** More broken links than this cost about as much to look at as a scan. */
const maxBrokenLinks = 1000;
/** What Linux calls file systems in user space: some, such as those of object stores, give folders made-up times. */
const fuse = 0x65735546;
/** When what a killed process left is removed. */
const abandonedMs = 24 * 3600 * 1000;

/** Where the index of a folder is kept: by its real path, the same for every way to it. */
export async function indexFile(root: string, cache: string): Promise<string> {
  const key = createHash("sha256").update(await realpath(root)).digest("hex").slice(0, 32);
  return join(cache, "folders", `${key}.index`);
}

/**
 * The images of a folder as an earlier scan found them, if every folder is the one that was scanned and has its times, and links that led
 * nowhere still do. `null` when there is no index, or a damaged or foreign one, or something changed.
 *
 * That looks at each folder and at no image. A link to a file is taken to lead to a file still: its target does not become a folder.
 */
export async function readFolderIndex(root: string, cache: string): Promise<FolderIndex | null> {
  let file: FileHandle | null = null;
  try {
    file = await open(await indexFile(root, cache), "r");
    return await readIndexFile(file, await realpath(root), (folders, conditions) => unchanged(root, folders, conditions));
  } catch {
    return null;
  } finally {
    await file?.close();
  }
}

/** Puts together what a scan found; the scan's own names are freed on the way. */
export function indexOf(scan: FolderScan): FolderIndex {
  const folders = PackedStrings.of(scan.folders.map((folder) => folder.path));
  const counts = Uint32Array.from(scan.folders, (folder) => folder.images.length);
  const names = PackedStrings.empty();
  for (const folder of scan.folders) {
    names.appendFrom(folder.images);
    folder.images = PackedStrings.empty();
  }
  return { folders, counts, names };
}

/**
 * Keeps what a scan found for the next time, unless a change could go unseen. The file appears complete or not at all; that it cannot be
 * written is no error.
 *
 * @param anywhere also where the times of folders may be made up
 */
export async function keepFolderIndex(root: string, cache: string, scan: FolderScan, index: FolderIndex, anywhere: boolean): Promise<void> {
  if (scan.brokenLinks.length > maxBrokenLinks || !settled(scan) || !(anywhere || (await haveTimes(root, scan)))) return;
  let part: string | null = null;
  try {
    const path = await indexFile(root, cache);
    await mkdir(dirname(path), { recursive: true });
    await removeAbandoned(path);
    part = `${path}.${randomUUID()}.part`;
    const file = await open(part, "wx");
    try {
      const conditions = { identities: scan.folders.map((folder) => folder.identity), brokenLinks: PackedStrings.of(scan.brokenLinks) };
      await writeIndexFile(file, await realpath(root), index, conditions);
    } finally {
      await file.close();
    }
    await rename(part, path);
  } catch {
    if (part) await rm(part, { force: true }).catch(() => undefined);
  }
}

async function unchanged(root: string, folders: PackedStrings, { identities, brokenLinks }: IndexConditions): Promise<boolean> {
  for (let i = 0; i < brokenLinks.length; i++) if (await stat(join(root, brokenLinks.at(i))).catch(() => null)) return false;
  for (let from = 0; from < folders.length; from += foldersAtOnce) {
    const same = await Promise.all(identities.slice(from, from + foldersAtOnce).map(async (then, i) => {
      const now = identityOf(await quickStat(join(root, folders.at(from + i))));
      return now.inode === then.inode && now.modified === then.modified && now.changed === then.changed;
    }));
    if (same.includes(false)) return false;
  }
  return true;
}

/** Whether no folder has changed so shortly before the scan that another change might not show. */
function settled(scan: FolderScan): boolean {
  const limit = BigInt(scan.began - grainMs) * 1_000_000n;
  return scan.folders.every(({ identity: { modified, changed } }) => modified < limit && changed < limit && modified > 0n);
}

async function haveTimes(root: string, scan: FolderScan): Promise<boolean> {
  const oneOfEach = new Map(scan.folders.map((folder) => [folder.device, folder.path]));
  const types = await Promise.all([...oneOfEach.values()].map(async (path) => (await statfs(join(root, path)).catch(() => null))?.type));
  return process.platform !== "linux" || !types.includes(fuse);
}

async function removeAbandoned(path: string): Promise<void> {
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(`${basename(path)}.`)) continue;
    const left = join(dirname(path), name);
    if (Date.now() - (await stat(left)).mtimeMs > abandonedMs) await rm(left, { force: true });
  }
}
