/** Search and near-duplicates on real pictures, with copies planted among them. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import sharp from "sharp";
import { EmojiDrawings } from "../../lib/data/datasets/emojiDrawings.js";
import { writeEmbeddings } from "../../lib/train/embeddings/embeddingFile.js";
import { NearestError } from "../../lib/train/nearest.js";
import { OptionError } from "../../lib/train/options.js";
import { findDuplicates, searchImages } from "../../lib/train/searchImages.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { plantedFolder, plantedGroups, untrainedEncoder } from "./plantedDuplicates.js";

expectNoTensorsLeft();
const folder = temporaryFolder("search");
const photos = join(folder, "photos");
const pretrained = join(folder, "encoder.pth.tar");

beforeAll(async () => {
  await plantedFolder(photos);
  await untrainedEncoder(pretrained);
});

const namesIn = (groups: readonly { images: readonly { name: string }[] }[]): string[][] => groups.map(({ images }) => images.map(({ name }) => name));

test("planted copies are found, and nothing else", async () => {
  const result = await findDuplicates(photos, { pretrained, threshold: 0.995 });
  expect(result).toMatchObject({ threshold: 0.995, approximate: false, bad: [] });
  expect(namesIn(result.groups).sort()).toEqual(plantedGroups.map((group) => [...group].sort()).sort());
  for (const { images, similarity } of result.groups) {
    expect(similarity).toBeGreaterThanOrEqual(0.995);
    expect(images[0]!.similarity).toBe(1);
    for (const each of images) expect(each.similarity).toBeGreaterThanOrEqual(similarity);
  }
  const approximate = await findDuplicates(photos, { pretrained, threshold: 0.995, approximate: true });
  expect(approximate.approximate).toBe(true);
  expect(namesIn(approximate.groups)).toEqual(namesIn(result.groups));
});
void sharp; void EmojiDrawings; void writeEmbeddings; void NearestError; void OptionError; void searchImages; void torch; void fixturePath; void mkdirSync; void writeFileSync; void describe;
