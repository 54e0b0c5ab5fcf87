import { opendir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { sortByCodePoint } from "../folder/codePoints.js";
import { UnknownDataError } from "../errors.js";
import { isImageName } from "../folder/imageEndings.js";
import { tarEndings } from "./webDataset.js";

/** Shards found in a folder, as absolute paths in order. */
export interface ShardFolder {
  kind: "tar" | "parquet";
  files: string[];
}

/** How files and folders of splits are called, Hugging Face's and others' names among them. */
const splitNames: Readonly<Record<string, string>> = {
  train: "train", training: "train", val: "val", valid: "val", validation: "val", dev: "val", test: "test", testing: "test",
};
const splitInName = new RegExp(`(?:^|[-_.])(${Object.keys(splitNames).join("|")})(?=[-_.\\d]|$)`, "i");

/**
 * The shards of a split, where a folder holds shards and nothing else that could be a data set: in the folder, in the subfolder of the
 * split, or in `data/` as in Hugging Face's repositories. `null` where there are images or other folders beside them.
 *
 * Where the files' names tell splits (`train-00000.tar`), those of the wanted one are taken.
 *
 * @throws {UnknownDataError} when tar and Parquet files lie side by side, or the wanted split is not there.
 */
export async function findShards(folder: string, split: string | undefined): Promise<ShardFolder | null> {
  for (const inside of [split ?? "train", "data", "."]) {
    const found = await onlyShards(join(folder, inside));
    if (found) return { ...found, files: inside === (split ?? "train") ? found.files : ofSplit(folder, found.files, split) };
  }
  return null;
}

async function onlyShards(folder: string): Promise<ShardFolder | null> {
  if (!(await stat(folder).catch(() => null))?.isDirectory()) return null;
  const found: Record<ShardFolder["kind"], string[]> = { tar: [], parquet: [] };
  // Part by part: a folder of ten million images is known for one by its first file.
  for await (const entry of await opendir(folder)) {
    const name = entry.name.toLowerCase();
    if (name.startsWith(".")) continue;
    if (entry.isDirectory() || isImageName(name)) return null;
    if (tarEndings.some((ending) => name.endsWith(ending))) found.tar.push(entry.name);
    else if (name.endsWith(".parquet")) found.parquet.push(entry.name);
  }
  if (found.tar.length > 0 && found.parquet.length > 0) {
    throw new UnknownDataError(
      `${folder} holds ${found.tar.length} tar and ${found.parquet.length} Parquet files; ` +
        `name those that are meant, such as ${join(folder, found.tar[0]!)}`,
    );
  }
  const kind = found.tar.length > 0 ? "tar" : "parquet";
  return found[kind].length === 0 ? null : { kind, files: sortByCodePoint(found[kind]).map((name) => join(folder, name)) };
}

function ofSplit(folder: string, files: string[], split: string | undefined): string[] {
  const splitOf = (file: string): string | null => {
    const match = splitInName.exec(basename(file));
    return match && splitNames[match[1]!.toLowerCase()]!;
  };
  const there = new Set(files.map(splitOf));
  if (there.size === 1 && (split === undefined || there.has(null))) return files;
  const wanted = splitNames[split ?? "train"] ?? split ?? "train";
  const those = files.filter((file) => splitOf(file) === wanted);
  if (those.length > 0 && !there.has(null)) return those;
  const names = [...there].map((name) => name ?? "none told by its name").join(", ");
  throw new UnknownDataError(
    `${folder} holds ${files.length} shards of these splits: ${names}; name the files of ${wanted} that are meant`,
  );
}
