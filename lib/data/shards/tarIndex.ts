import { createHash } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { readConfig } from "../../config.js";
import { FileBytes } from "./byteSource.js";
import { ShardError } from "./shardError.js";
import { someAtOnce } from "./someAtOnce.js";
import { readContents, readEntries, TarIndexWriter, type TarContents, type TarEntry, type TarSummary } from "./tarIndexFile.js";
import { tarSamples, type TarTally } from "./tarSamples.js";

const filesAtOnce = 8;

/**
 * What the headers of plain tar files say, read once: the contents of each shard go to a file in the cache folder and only counts stay in
 * memory, so that the number of images hardly matters. A shard whose size or time of change is another is read again.
 */
export class TarIndex {
  readonly shards: readonly TarSummary[];
  readonly #file: string;
  readonly #entries: readonly TarEntry[];
  readonly #held: ReadonlyMap<string, TarContents> | null;

  private constructor(file: string, entries: readonly TarEntry[], held: ReadonlyMap<string, TarContents> | null) {
    this.#file = file;
    this.#entries = entries;
    this.shards = entries;
    this.#held = held;
  }

  /**
   * @param paths absolute paths of tar files
   * @param cache folder for the index, by default `shards` in the project's cache folder; where it cannot be written, the index stays in
   *   memory
   * @throws {ShardError} when a file is missing, cut off, damaged or not a tar archive.
   */
  static async open(paths: readonly string[], cache = join(readConfig().cache, "shards")): Promise<TarIndex> {
    const file = join(cache, `${createHash("sha256").update(JSON.stringify(paths)).digest("hex").slice(0, 32)}.index`);
    const known = new Map((await readEntries(file)).map((entry) => [entry.path, entry]));
    const current = await someAtOnce(paths, filesAtOnce, async (path) => {
      const entry = known.get(path);
      const { size, modified } = await stateOf(path);
      return entry?.size === size && entry.modified === modified ? entry : null;
    });
    if (current.every((entry) => entry !== null)) return new TarIndex(file, current, null);

    const writer = await TarIndexWriter.open(file);
    try {
      const entries = await someAtOnce(paths, filesAtOnce, async (path, i) => {
        const old = current[i] ? await readContents(file, current[i]) : null;
        if (old) return writer.add(current[i]!, old);
        const { summary, contents } = await scanTar(path);
        return writer.add(summary, contents);
      });
      await writer.finish(entries);
      return new TarIndex(file, entries, writer.held);
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  /**
   * Where the images of one shard lie.
   *
   * @throws {ShardError} when the file has changed since it was opened.
   */
  async contents(shard: number): Promise<TarContents> {
    const entry = this.#entries[shard]!;
    const { size, modified } = await stateOf(entry.path);
    if (size !== entry.size || modified !== entry.modified) {
      throw new ShardError(entry.path, "changed while it was in use; start again when the shards are complete");
    }
    // Another process may have replaced the index file, or somebody have emptied the cache folder.
    return this.#held?.get(entry.path) ?? (await readContents(this.#file, entry)) ?? (await scanTar(entry.path)).contents;
  }
}

async function stateOf(path: string): Promise<{ size: number; modified: string }> {
  const about = await reading(path, stat(path, { bigint: true }));
  if (!about.isFile()) throw new ShardError(path, "not a file; give tar files, or a folder of them");
  return { size: Number(about.size), modified: String(about.mtimeNs) };
}

async function scanTar(path: string): Promise<{ summary: TarSummary; contents: TarContents }> {
  const contents: TarContents = { names: [], offsets: [], lengths: [], labels: [] };
  const tally: TarTally = { skipped: 0 };
  const { size, modified } = await stateOf(path);
  const file = await reading(path, open(path));
  try {
    const ranges = tarSamples(new FileBytes(file, size), path, ({ offset, size: length }) => ({ offset, length }), tally);
    for await (const { name, label, image } of ranges) {
      contents.names.push(name);
      contents.offsets.push(image.offset);
      contents.lengths.push(image.length);
      contents.labels.push(label);
    }
  } finally {
    await file.close();
  }
  let classes: number | null = 0;
  for (const label of contents.labels) classes = label === null || classes === null ? null : Math.max(classes, label + 1);
  return { summary: { path, size, modified, images: contents.names.length, skipped: tally.skipped, classes }, contents };
}

async function reading<T>(path: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw new ShardError(path, `cannot be read: ${(error as Error).message}; check the path and its permissions`, { cause: error });
  }
}
