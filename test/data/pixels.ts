/** Test images: golden pixels, synthetic photographs, and folders of them. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import type { DecodedImage, ImageSource } from "../../lib/data/index.js";
import { readNpz, type NpyArray } from "../support/fixtures.js";

/** The array `data` of a golden file under `augment/`. */
export function golden(file: string): NpyArray<Uint8Array> {
  return readNpz<Uint8Array>(`augment/${file}`).get("data")!;
}

/** A golden [H, W, 3] array as an image. */
export function goldenImage(file: string): DecodedImage {
  const { shape, data } = golden(file);
  return { data, width: shape[1]!, height: shape[0]! };
}

/** [3, H, W] of a uint8 tensor's row to interleaved pixels. */
export function interleaved(planes: Uint8Array, pixels: number): Uint8Array {
  const out = new Uint8Array(3 * pixels);
  for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) out[3 * i + c] = planes[c * pixels + i]!;
  return out;
}

/** How many bytes differ, and by how much at most. */
export function difference(a: Uint8Array, b: Uint8Array): { different: number; largest: number } {
  let different = a.length === b.length ? 0 : Infinity;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const distance = Math.abs(a[i]! - b[i]!);
    if (distance > 0) different++;
    largest = Math.max(largest, distance);
  }
  return { different, largest };
}

export const same = { different: 0, largest: 0 };

/** An image whose pixels differ from place to place and from `seed` to `seed`. */
export function synthetic(seed: number, width = 40, height = 32): DecodedImage {
  const data = new Uint8Array(3 * width * height);
  for (let i = 0; i < data.length; i++) data[i] = (i * 7 + seed * 31 + ((i * i) >> 4)) & 255;
  return { data, width, height };
}

export async function png(image: DecodedImage): Promise<Buffer> {
  return sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } }).png().toBuffer();
}

/** A source in memory; the indices in `bad` cannot be read. */
export function memorySource(length: number, bad: readonly number[] = []): ImageSource & { reads: number } {
  return {
    length,
    classes: [],
    reads: 0,
    name: (index) => `image ${index}`,
    label: () => null,
    async image(index) {
      this.reads++;
      if (bad.includes(index)) throw new Error("broken on purpose");
      return synthetic(index);
    },
  };
}

/** Makes a temporary folder with the given files, runs `body`, and removes it. */
export async function withFolder(files: Record<string, Uint8Array | string>, body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "moco-data-"));
  try {
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), content);
    }
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
