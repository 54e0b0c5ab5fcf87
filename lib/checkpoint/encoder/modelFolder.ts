import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { diskFiles, writeDurably, type FileLayer } from "../files/durableFile.js";
import { temporaryPath } from "../files/temporaryFile.js";

/** What a file of the folder holds: a JSON value, or what a function writes under the path that it is given. */
export type FolderContent = Record<string, Record<string, unknown> | ((path: string) => Promise<void>)>;

/**
 * Writes a folder that appears with all of its files or not at all: they are written into a hidden folder beside it, which is renamed at
 * the end. A folder that is there already is moved aside first, and removed when the new one stands; if that fails, it is moved back.
 */
export async function writeModelFolder(path: string, content: FolderContent, files: FileLayer = diskFiles): Promise<void> {
  const temporary = temporaryPath(path);
  await mkdir(temporary);
  try {
    for (const [name, value] of Object.entries(content)) {
      const file = join(temporary, name);
      if (typeof value === "function") await value(file);
      else await writeDurably(file, (sink) => sink.write(Buffer.from(`${JSON.stringify(value, null, 2)}\n`)), files);
    }
    await files.syncFolder(temporary);
    await exchange(temporary, path, files);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw error;
  }
  await files.syncFolder(dirname(path));
}

async function exchange(temporary: string, path: string, files: FileLayer): Promise<void> {
  const aside = temporaryPath(path);
  const moved = await rename(path, aside).then(() => true, (error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return false;
    throw error;
  });
  try {
    await files.rename(temporary, path);
  } catch (error) {
    if (moved) await rename(aside, path).catch(() => undefined);
    throw error;
  }
  if (moved) await rm(aside, { recursive: true, force: true });
}
