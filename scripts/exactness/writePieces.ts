import { mkdirSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { packageRoot } from "../../lib/setup/packageRoot.js";

/** Writes pieces of a photograph as JPEG files, `0.jpg` and so on. */
export async function writePieces(folder: string, count: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const photograph = sharp(join(packageRoot, "test", "fixtures", "augment", "files", "china.jpg"));
  for (let i = 0; i < count; i++) {
    const piece = photograph.clone().extract({ left: 7 * i, top: 4 * i, width: 120, height: 90 });
    await piece.jpeg().toFile(join(folder, `${i}.jpg`));
  }
}
