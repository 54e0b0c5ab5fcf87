import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import sharp from "sharp";
import { fixturePath } from "./fixtures.js";

const side = 8;
const record = 1 + side * side;

/** Every fifth image is for validation. */
export const isForValidation = (index: number): boolean => index % 5 === 0;

/**
 * Writes scikit-learn's digits as an image folder: `train/0/0001.png` and so on, and a fifth of them under `val/`.
 *
 * @param options.count how many of the 1,797; @param options.pixels side of the pictures, at least 8
 */
export async function writeDigits(folder: string, { count = 1797, pixels = 32 } = {}): Promise<void> {
  const bytes = gunzipSync(readFileSync(fixturePath("digits/digits.bin.gz")));
  for (const part of ["train", "val"]) for (let digit = 0; digit < 10; digit++) mkdirSync(join(folder, part, String(digit)), { recursive: true });
  const writing = Array.from({ length: count }, async (_, index) => {
    const image = bytes.subarray(index * record, (index + 1) * record);
    const gray = Uint8Array.from(image.subarray(1), (value) => Math.min(255, value * 16));
    const file = join(folder, isForValidation(index) ? "val" : "train", String(image[0]), `${String(index).padStart(4, "0")}.png`);
    const picture = sharp(gray, { raw: { width: side, height: side, channels: 1 } });
    await picture.resize(pixels, pixels, { kernel: "cubic" }).toColourspace("srgb").png().toFile(file);
  });
  await Promise.all(writing);
}
