import { mkdirSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { EmojiDrawings, vendors } from "../../lib/data/datasets/emojiDrawings.js";

/** A category as the name of a folder: "Food & Drink" is "food-and-drink". */
export function folderName(category: string): string {
  return category.toLowerCase().replaceAll("&", "and").replaceAll(/\s+/g, "-");
}

/**
 * Writes the demo's emoji as an image folder, a folder for each of Unicode's categories: Google's drawings under `train/`, Twitter's of the
 * same emoji under `val/`, without skin-tone variations. The pictures are opaque, on white: what one reader composites and another drops
 * does not matter.
 *
 * @param options.count how many of the 1,911 emoji, evenly spread; all unless given
 * @returns number of images of each part
 * @throws EmojiPackageError where the packages with the drawings are not installed
 */
export async function writeEmoji(folder: string, { count }: { count?: number } = {}): Promise<number> {
  const source = new EmojiDrawings();
  const emoji = spread(source.baseEmoji, count ?? source.baseEmoji.length);
  for (const [v, part] of ["train", "val"].entries()) {
    for (const index of emoji) {
      const category = join(folder, part, folderName(source.classes[source.label(index)]!));
      mkdirSync(category, { recursive: true });
      const { data, width, height } = await source.image(index + v * source.pairs);
      const file = join(category, `${String(index).padStart(4, "0")}-${vendors[v]}.png`);
      await sharp(data, { raw: { width, height, channels: 3 } }).png().toFile(file);
    }
  }
  return emoji.length;
}

function spread(values: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, i) => values[Math.floor((i * values.length) / count)]!);
}
