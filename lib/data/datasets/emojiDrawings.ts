import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { DEMO_PACKAGES, demoPackage } from "../../setup/demoImages.js";
import type { DecodedImage } from "../decoding/decodedImage.js";
import type { ImageSource } from "../imageSource.js";

/** The two vendors whose drawings are compared. */
export const vendors = ["google", "twitter"] as const;
export type Vendor = (typeof vendors)[number];

/** The packages with the drawings are not installed. */
export class EmojiPackageError extends Error {
  override readonly name = "EmojiPackageError";
}

interface EmojiRecord {
  name: string;
  image: string;
  category: string;
  skin_variations?: Record<string, { image: string }>;
}

interface Drawing {
  path: string;
  name: string;
  category: number;
}

/**
 * The 3,786 emoji that both Google and Twitter have drawn, 64-pixel PNGs composited on white: first all of Google's, then Twitter's in the same
 * order, so drawing `i` and drawing `i + pairs` show the same emoji. Labels are Unicode's categories (flags, food and drink, ...).
 *
 * The files come from the npm packages `emoji-datasource-google` and `emoji-datasource-twitter`.
 */
export class EmojiDrawings implements ImageSource {
  readonly classes: readonly string[];
  /** Number of emoji; the source has twice as many drawings. */
  readonly pairs: number;
  /** Indices of emoji (below `pairs`) that are not skin-tone variations of another. */
  readonly baseEmoji: readonly number[];
  readonly #drawings: readonly Drawing[];

  /** @throws EmojiPackageError that says which packages to install. */
  constructor() {
    const folders = vendors.map(imageFolder) as [string, string];
    const records = JSON.parse(readFileSync(join(dirname(dirname(dirname(folders[0]))), "emoji.json"), "utf8")) as EmojiRecord[];
    const categories = [...new Set(records.map((record) => record.category))].sort();
    const emoji: { image: string; name: string; category: number; isBase: boolean }[] = [];
    for (const record of records) {
      const category = categories.indexOf(record.category);
      const variations = Object.values(record.skin_variations ?? {});
      for (const { image } of [record, ...variations]) {
        if (folders.every((folder) => existsSync(join(folder, image)))) {
          emoji.push({ image, name: record.name.toLowerCase(), category, isBase: image === record.image });
        }
      }
    }
    this.classes = categories;
    this.pairs = emoji.length;
    this.baseEmoji = emoji.flatMap(({ isBase }, i) => (isBase ? [i] : []));
    this.#drawings = folders.flatMap((folder, v) =>
      emoji.map(({ image, name, category }) => ({ path: join(folder, image), name: `${name} (${vendors[v]})`, category })),
    );
  }

  get length(): number {
    return this.#drawings.length;
  }

  name(index: number): string {
    return this.#drawing(index).name;
  }

  label(index: number): number {
    return this.#drawing(index).category;
  }

  /** Path of the drawing's PNG file as it is, transparent. */
  pngFile(index: number): string {
    return this.#drawing(index).path;
  }

  async image(index: number): Promise<DecodedImage> {
    const image = sharp(await readFile(this.#drawing(index).path)).flatten({ background: "#ffffff" }).removeAlpha().toColourspace("srgb");
    const { data, info } = await image.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  }

  #drawing(index: number): Drawing {
    const drawing = this.#drawings[index];
    if (!drawing) throw new RangeError(`there is no drawing ${index}; they are numbered 0 to ${this.#drawings.length - 1}`);
    return drawing;
  }
}

function imageFolder(vendor: Vendor): string {
  const folder = demoPackage(`emoji-datasource-${vendor}`);
  if (folder !== null) return join(folder, "img", vendor, "64");
  throw new EmojiPackageError(`the demo's images are not installed; run: npm install ${DEMO_PACKAGES.join(" ")} (moco demo fetches them by itself)`);
}
