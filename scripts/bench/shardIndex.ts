import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { TarIndexWriter, type TarContents, type TarEntry } from "../../lib/data/shards/tarIndexFile.js";

/**
 * Writes the index that the headers of shards would give, without headers: each shard's entry says that it has so many images, its contents
 * name one.
 *
 * @param cache the index's folder, as `TarIndex.open` takes it
 * @returns the index file
 */
export async function writeShardIndex(paths: readonly string[], cache: string, images: number): Promise<string> {
  const file = join(cache, `${createHash("sha256").update(JSON.stringify(paths)).digest("hex").slice(0, 32)}.index`);
  const contents: TarContents = { names: ["000000.jpg"], offsets: [512], lengths: [100_000], labels: [null] };
  const writer = await TarIndexWriter.open(file);
  const entries: TarEntry[] = [];
  for (const path of paths) {
    const { size, mtimeNs } = await stat(path, { bigint: true });
    entries.push(await writer.add({ path, size: Number(size), modified: String(mtimeNs), images, skipped: 0, classes: null }, contents));
  }
  await writer.finish(entries);
  return file;
}
