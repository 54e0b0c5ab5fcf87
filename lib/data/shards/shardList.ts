import { readdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { sortByCodePoint } from "../folder/codePoints.js";
import { DataOptionError } from "../errors.js";
import { expandBraces } from "./braceExpansion.js";
import { ShardError } from "./shardError.js";

export const commandPrefix = "pipe:";

/**
 * The shards that names stand for, in order: files by absolute path, commands with their `pipe:`. A text may hold several, divided by
 * `::`; braces are expanded in file names and in commands alike; a folder stands for the shards in it, in the order of code points.
 *
 * @param endings of the files in a folder that are shards, in lower case
 * @throws {DataOptionError | ShardError} for no shard, a folder without any, a missing file or an address of the network.
 */
export async function listShards(given: string | readonly string[], endings: readonly string[]): Promise<string[]> {
  const shards: string[] = [];
  for (const text of [given].flat()) {
    // A file whose name has braces or colons is meant as it is.
    const names = (await exists(text)) ? [text] : text.split("::").flatMap((part) => expandBraces(part.trim()));
    for (const name of names) shards.push(...(await listOne(name, endings)));
  }
  if (shards.length === 0) throw new DataOptionError("no shards are given; name files, a folder or commands (pipe:COMMAND)");
  return shards;
}

async function listOne(name: string, endings: readonly string[]): Promise<string[]> {
  if (name === "") return [];
  if (name.startsWith(commandPrefix)) return [name];
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(name) && !name.startsWith("file://")) {
    throw new ShardError(name, `only files and commands are read; give a command that fetches it, such as "pipe:curl -sfL ${name}"`);
  }
  const path = resolve(name.replace(/^file:(\/\/)?/, "").replace(/^~(?=\/)/, homedir()));
  const about = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === "ENOENT" ? "there is no such file; check the path" : `cannot be read: ${error.message}`;
    throw new ShardError(path, reason, { cause: error });
  });
  if (!about.isDirectory()) return [path];
  const inside = (await readdir(path)).filter((file) => endings.some((ending) => file.toLowerCase().endsWith(ending)));
  if (inside.length === 0) throw new ShardError(path, `the folder holds no file that ends in ${endings.join(" or ")}`);
  return sortByCodePoint(inside).map((file) => join(path, file));
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
