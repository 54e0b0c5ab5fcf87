import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { BenchmarkError } from "./peer.js";

/**
 * The two photographs among the tests' fixtures, that all others are parts of.
 *
 * @throws {BenchmarkError} where they are not, in an installed package
 */
export function originalPhotographs(): string[] {
  const fixtures = fileURLToPath(new URL("../../../test/fixtures/augment/files/", import.meta.url));
  const photographs = ["china.jpg", "flower.jpg"].map((name) => join(fixtures, name));
  const missing = photographs.find((path) => !existsSync(path));
  if (missing !== undefined) throw new BenchmarkError(`there is no ${missing}; run the benchmark in a checkout of the repository`);
  return photographs;
}

/**
 * Writes JPEGs of ImageNet's usual size, 500 x 375 pixels, each another part of one of two photographs among the tests' fixtures.
 *
 * @returns their names
 */
export async function makePhotographs(folder: string, count: number): Promise<string[]> {
  const photographs = originalPhotographs();
  const sizes = await Promise.all(photographs.map((path) => sharp(path).metadata()));
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    const { width, height } = sizes[i % 2]!;
    // Parts of a quarter to all of the picture, their corners spread by the golden ratio.
    const share = 0.5 + 0.5 * ((i * 0.618) % 1);
    const part = { width: Math.floor(width * share), height: Math.floor(height * share) };
    const corner = { left: Math.floor((width - part.width) * ((i * 0.755) % 1)), top: Math.floor((height - part.height) * ((i * 0.57) % 1)) };
    const name = `${String(i).padStart(5, "0")}.jpg`;
    await sharp(photographs[i % 2]!).extract({ ...part, ...corner }).resize(500, 375, { fit: "fill" }).jpeg({ quality: 90 }).toFile(join(folder, name));
    names.push(name);
  }
  return names;
}
