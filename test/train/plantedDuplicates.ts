/** A folder of real pictures, some of them with near-copies beside them. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import sharp, { type Sharp } from "sharp";
import { addPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { EmojiDrawings } from "../../lib/data/datasets/emojiDrawings.js";
import { openImages } from "../../lib/data/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { writeEmbeddings } from "../../lib/train/embeddings/embeddingFile.js";
import { loadExtractor } from "../../lib/train/loadExtractor.js";
import { gatherFeatures } from "../../lib/train/neighbours/featureBank.js";
import { fixturePath } from "../support/fixtures.js";

const photographs = ["china", "flower"] as const;
const copies = ["copy", "cropped", "resized", "worse"] as const;

/** The groups that are planted. */
export const plantedGroups: readonly string[][] = photographs.map((name) => [`${name}.jpg`, ...copies.map((copy) => `${name}-${copy}.jpg`)]);

/** Writes two photographs, four near-copies of each, four other pieces of them, and twelve drawings. */
export async function plantedFolder(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const writing = photographs.flatMap((name) => {
    const file = fixturePath(`augment/files/${name}.jpg`);
    const picture = (): Sharp => sharp(file);
    const to = (suffix: string): string => join(folder, `${name}${suffix}.jpg`);
    const [width, height] = [640, 427];
    return [
      picture().jpeg({ quality: 92 }).toFile(to("")),
      picture().jpeg({ quality: 92 }).toFile(to("-copy")),
      picture().jpeg({ quality: 40 }).toFile(to("-worse")),
      picture().resize(400).jpeg({ quality: 85 }).toFile(to("-resized")),
      picture().extract({ left: 6, top: 4, width: width - 12, height: height - 8 }).jpeg({ quality: 85 }).toFile(to("-cropped")),
      ...[1, 2].map((i) =>
        picture().extract({ left: 140 * i, top: 50 * i, width: 200, height: 200 }).jpeg().toFile(to(`-piece${i}`))),
    ];
  });
  const drawings = new EmojiDrawings();
  for (let i = 0; i < 12; i++) {
    writing.push(sharp(drawings.pngFile(i * 300)).flatten({ background: "#ffffff" }).toFile(join(folder, `drawing${i}.png`)));
  }
  await Promise.all(writing);
}

/** Writes a checkpoint of a small encoder as it begins its training: what it sees are colours and their places. */
export async function untrainedEncoder(path: string, embedDim = 48): Promise<void> {
  torch.manualSeed(2);
  using moco = createMoCo({
    encoder: (numClasses) => new VisionTransformer({ imageSize: 64, patchSize: 16, embedDim, depth: 2, numClasses }), dim: 8, mlpDim: 16,
  });
  await writeCheckpoint(path, { epoch: 1, arch: "custom", state_dict: addPrefix(moco.stateDict()) });
}

/** Writes the features of a folder's pictures, as `pretrained` gives them, into an embeddings file. */
export async function embedFolder(photos: string, pretrained: string, embeddings: string): Promise<void> {
  const names: string[] = [];
  const extractor = await loadExtractor(pretrained);
  using bank = await gatherFeatures(extractor, await openImages(photos), { onBatch: (batch) => void names.push(...batch.names) });
  await writeEmbeddings(embeddings, { names, features: bank.features });
  extractor.encoder.dispose();
}
