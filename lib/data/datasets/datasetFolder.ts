import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { DatasetError } from "./datasetError.js";

export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isFile() ?? false;
}

export async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

/**
 * The folder that holds a data set: the given one, or the usual one inside it.
 *
 * @param inner name that the folder has when torchvision or the data set's archive makes it
 * @param files paths in it that tell it from any other folder
 * @returns an absolute path, or null
 */
export async function findDataset(folder: string, inner: string, files: readonly string[]): Promise<string | null> {
  for (const root of [resolve(folder), resolve(folder, inner)]) {
    const found = await Promise.all(files.map((file) => isFile(join(root, file))));
    if (found.every(Boolean)) return root;
  }
  return null;
}

/** @throws {DatasetError} for a split that the data set does not have. */
export function checkSplit(split: string, splits: readonly string[], title: string): void {
  if (splits.includes(split)) return;
  throw new DatasetError(`split is ${JSON.stringify(split)}; ${title} has ${splits.map((name) => `"${name}"`).join(", ")}`);
}

/** The image at an index. */
export function itemAt<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`there is no image ${index}; the data set has ${items.length}`);
  return item;
}
