import { tarMembers, type TarMember } from "./tar.js";
import type { ByteSource } from "./byteSource.js";

/** Last parts of a member's name, after its first dot and in lower case, that mean an image. */
const shardImageSuffixes: ReadonlySet<string> = new Set([
  "jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm", "webp", "gif", "bmp", "tif", "tiff", "avif",
]);

/** One sample of a tar shard; `T` is what the reader made of the image's member. */
export interface TarSample<T> {
  /** Among the shard's samples, from 0. */
  position: number;
  /** Name of the image's member. */
  name: string;
  label: number | null;
  image: T;
}

/** Counts what a shard's reading left out. */
export interface TarTally {
  /** Groups of members without an image. */
  skipped: number;
}

const largestLabel = 64; // bytes of a .cls member; a longer one is no number

/**
 * The samples of a tar shard by WebDataset's rule: members that follow each other and whose names are the same up to the first dot of
 * their last part are one sample; what comes after that dot says what the member is. `a/1.jpg` and `a/1.cls` are an image and its label.
 * Of several images in a group the first counts; a group without one is counted and left out, and so is a member whose name has no dot
 * or starts with two underscores and has two more. A `.cls` member that is not a whole number from 0 gives no label.
 *
 * @param take makes of the image's member what the sample holds; null leaves the sample out unread
 * @throws {ShardError} when the archive is damaged.
 */
export async function* tarSamples<T>(
  source: ByteSource, shard: string, take: (member: TarMember, position: number) => T | null | Promise<T | null>, tally: TarTally,
): AsyncGenerator<TarSample<T>, void, undefined> {
  let key: string | null = null;
  let image: { name: string; value: T | null } | null = null;
  let label: number | null = null;
  let position = 0;
  const finish = (): TarSample<T> | null => {
    if (key === null) return null;
    if (!image) {
      tally.skipped++;
      return null;
    }
    const { name, value } = image;
    position++;
    return value === null ? null : { position: position - 1, name, label, image: value };
  };
  for await (const member of tarMembers(source, shard)) {
    const split = splitName(member.name);
    if (!split) continue;
    if (split.key !== key) {
      const sample = finish();
      if (sample) yield sample;
      ({ key } = split);
      image = label = null;
    }
    if (split.suffix === "cls" && member.size <= largestLabel) label = parseLabel(await member.read());
    else if (!image && shardImageSuffixes.has(split.suffix)) image = { name: member.name, value: await take(member, position) };
  }
  const last = finish();
  if (last) yield last;
}

/** Divides a name at the first dot of its last part; null for names that WebDataset leaves out. */
export function splitName(name: string): { key: string; suffix: string } | null {
  if (/^__[^/]*__($|\/)/.test(name)) return null;
  const dot = name.indexOf(".", name.lastIndexOf("/") + 1);
  if (dot <= 0) return null;
  return { key: name.slice(0, dot), suffix: name.slice(dot + 1).toLowerCase() };
}

function parseLabel(bytes: Uint8Array): number | null {
  const text = Buffer.from(bytes).toString("latin1").trim();
  const label = /^\d+$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(label) ? label : null;
}
