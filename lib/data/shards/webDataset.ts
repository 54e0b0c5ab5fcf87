import { createReadStream } from "node:fs";
import { basename } from "node:path";
import { createGunzip } from "node:zlib";
import { ChunkBytes } from "./byteSource.js";
import type { ShardPart } from "./dealShards.js";
import { runCommand, type RunningCommand } from "./shellCommand.js";
import { ShardError } from "./shardError.js";
import { commandPrefix, listShards } from "./shardList.js";
import { lengthUnknown, ShardStream, type Shard, type ShardSample, type ShardStreamOptions } from "./shardStream.js";
import { TarIndex } from "./tarIndex.js";
import { tarSamples } from "./tarSamples.js";

export interface WebDatasetOptions extends ShardStreamOptions {
  /** Folder for the index of plain tar files. Default: `shards` in the project's cache folder. */
  indexFolder?: string;
}

/** Endings of the files that a folder of shards is made of. */
export const tarEndings: readonly string[] = [".tar", ".tar.gz", ".tgz"];

/**
 * Images in tar files by WebDataset's rules (`tarSamples` says which members make a sample), from plain files, files compressed by gzip, or
 * the output of shell commands.
 *
 * Of plain files only the headers are read here, once; images are handed out as parts of the files and reach native threads without
 * passing through JavaScript. Compressed files and commands are read as streams on the JavaScript thread and held in memory from the
 * shuffle buffer on; a command waits at its pipe while nobody reads.
 *
 * @example
 * const plain = await WebDataset.open("imagenet-train-{000000..000146}.tar");
 * const fetched = await WebDataset.open("pipe:curl -sfL https://example.org/{00..99}.tar.zst | zstd -dc", { length: 1_000_000 });
 */
export class WebDataset extends ShardStream {
  /** Groups of members without an image in the plain tar files; they are left out. */
  readonly skipped: number;

  private constructor(shards: readonly Shard[], skipped: number, options: ShardStreamOptions) {
    super(shards, options);
    this.skipped = skipped;
  }

  /**
   * @param urls files, folders of tar files, and commands as `pipe:COMMAND`, with braces for several, such as `{000..146}`
   * @throws {ShardError} when a plain file is missing, cut off, damaged or not a tar archive, or no plain file has an image.
   * @throws {DataOptionError} for an option outside its range, or a command or compressed file without `length`.
   */
  static async open(urls: string | readonly string[], options: WebDatasetOptions = {}): Promise<WebDataset> {
    const { indexFolder, ...streamOptions } = options;
    const names = await listShards(urls, tarEndings);
    const plain = names.filter((name) => !isStreamed(name));
    // Said before the headers of what may be terabytes are read.
    if (options.length === undefined && plain.length < names.length) throw lengthUnknown(names.find(isStreamed)!);
    const index = await TarIndex.open(plain, indexFolder);
    const skipped = index.shards.reduce((sum, shard) => sum + shard.skipped, 0);
    if (plain.length === names.length && index.shards.every((shard) => shard.images === 0)) {
      throw new ShardError(
        plain[0]!,
        `no image in ${plain.length === 1 ? "it" : `it and the ${plain.length - 1} others`}` +
          `${skipped > 0 ? ` (${skipped} groups of members without one)` : ""}; ` +
          "members whose names end in .jpg, .png, .webp and the like after their first dot count",
      );
    }
    const classes = names.length === plain.length ? numbersAsClasses(index) : undefined;
    let number = 0;
    const shards = names.map((name) => (isStreamed(name) ? streamedTar(name) : plainTar(index, number++)));
    return new WebDataset(shards, skipped, { ...(classes && { classes }), ...streamOptions });
  }
}

function isStreamed(name: string): boolean {
  return name.startsWith(commandPrefix) || /\.(tar\.gz|tgz)$/i.test(name);
}

/** Labels of WebDataset are numbers without names. */
function numbersAsClasses(index: TarIndex): string[] | undefined {
  const counts = index.shards.filter((shard) => shard.images > 0).map((shard) => shard.classes);
  if (counts.some((count) => count === null)) return undefined;
  return Array.from({ length: Math.max(...(counts as number[])) }, (_, label) => String(label));
}

function plainTar(index: TarIndex, number: number): Shard {
  const { path, images } = index.shards[number]!;
  return {
    name: path,
    count: images,
    async *open(part) {
      const { names, offsets, lengths, labels } = await index.contents(number);
      for (let position = part.from; position < Math.min(part.to, images); position += part.stride) {
        yield {
          position,
          name: `${basename(path)}/${names[position]!}`,
          label: labels[position]!,
          image: { path, offset: offsets[position]!, length: lengths[position]! },
          bytes: 0,
        };
      }
    },
  };
}

function streamedTar(name: string): Shard {
  const command = name.startsWith(commandPrefix) ? name.slice(commandPrefix.length) : null;
  return {
    name,
    count: null,
    open: (part, ended) => readStreamed(name, part, ended, () => (command === null ? unzip(name) : runCommand(command, name))),
  };
}

async function* readStreamed(
  shard: string, part: ShardPart, ended: AbortSignal, start: () => RunningCommand,
): AsyncGenerator<ShardSample, void, undefined> {
  if (ended.aborted) return;
  const running = start();
  ended.addEventListener("abort", running.stop);
  const source = new ChunkBytes(running.output);
  const wanted = (position: number): boolean =>
    position >= part.from && position < part.to && (position - part.from) % part.stride === 0;
  try {
    const samples = tarSamples(source, shard, (member, position) => (wanted(position) ? member.read() : null), { skipped: 0 });
    for await (const { position, name, label, image } of samples) {
      yield { position, name: `${shard}/${name}`, label, image, bytes: image.length };
    }
    // What follows the archive's end: a command that cannot write it would fail.
    while (await source.skip(1024 ** 2));
    await running.ended;
  } catch (error) {
    // A command that failed explains an output that is cut off.
    if (source.ended || !(error instanceof ShardError)) await running.ended;
    throw error;
  } finally {
    ended.removeEventListener("abort", running.stop);
    running.stop();
  }
}

/** A file that gzip compressed, in the form of a command. */
function unzip(path: string): RunningCommand {
  const file = createReadStream(path);
  const output = createGunzip();
  const ended = new Promise<void>((resolve, reject) => {
    const fail = (cause: Error): void => {
      reject(new ShardError(path, `cannot be unzipped: ${cause.message}; fetch or write the shard again`, { cause }));
      output.destroy(cause);
    };
    file.on("error", fail);
    output.on("error", fail).on("close", resolve);
  });
  ended.catch(() => {}); // who waits for it hears of it
  file.pipe(output);
  return { output, ended, stop: () => (file.destroy(), output.destroy()) };
}
