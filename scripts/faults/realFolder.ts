import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { FileSource } from "../../lib/checkpoint/byteSource.js";
import { requireLoads } from "./checkpointContents.js";
import type { Entry, Listing } from "./simulatedDisk.js";

/** What a folder on a real disk holds. */
export function listingOf(folder: string): Listing {
  const entry = (path: string): Entry => {
    const stats = lstatSync(path);
    if (stats.isSymbolicLink()) return { kind: "link", target: readlinkSync(path) };
    return stats.isDirectory() ? { kind: "folder" } : { kind: "file", bytes: readFileSync(path) };
  };
  return new Map(readdirSync(folder).map((name) => [name, entry(join(folder, name))]));
}

/** What is wrong with a checkpoint that should load from a path, through links; empty if nothing is. */
export async function loadingViolations(path: string, number: number | null, elements?: number): Promise<string[]> {
  if (number === null) return [`${path} does not lead to a whole checkpoint`];
  try {
    const source = await FileSource.open(path);
    try {
      await requireLoads(source, number, elements);
    } finally {
      await source.close();
    }
    return [];
  } catch (error) {
    return [`${path} does not load: ${(error as Error).message}`];
  }
}
