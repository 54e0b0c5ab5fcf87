/** Views that stay bytes until they are used, a part at a time. */
import { expect, test } from "@jest/globals";
import {
  cropAndFlip, DataOptionError, ImageFolder, PixelNormalizer, supervisedRecipe, TwoViewLoader, ViewLoader, type ImageSource,
} from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { memorySource } from "./pixels.js";

expectNoTensorsLeft();

const options = { batchSize: 5, imageSize: 32, seed: 3, threads: 2 };

async function viewsOf(source: ImageSource, changes: { dtype?: "uint8"; copyTo?: string }): Promise<Uint8Array[]> {
  await using loader = new TwoViewLoader(source, { ...options, ...changes });
  using normalizer = new PixelNormalizer("cpu");
  const views: Uint8Array[] = [];
  for (let epoch = 0; epoch < 3; epoch++) {
    for await (using batch of loader.epoch(epoch)) {
      for (const view of batch.views) {
        expect([view.dtype, view.shape]).toEqual([changes.dtype ?? "float32", [5, 3, 32, 32]]);
        if (changes.dtype === undefined) views.push(view.bytes());
        else torch.scope(() => [[0, 2], [2, 3]].forEach(([first, count]) => views.push(normalizer.apply(view.narrow(0, first!, count!)).bytes())));
      }
    }
  }
  return views;
}

test("normalised in parts, they are the bits of views that were normalised at once", async () => {
  const source = await ImageFolder.open(fixturePath("augment/files"));
  const whole = Buffer.concat(await viewsOf(source, {}));
  expect(whole.length).toBeGreaterThan(3 * 2 * 5 * 3 * 32 * 32 * 4 - 1);
  expect(Buffer.concat(await viewsOf(source, { dtype: "uint8" })).equals(whole)).toBe(true);
});

test("what cannot be bytes is refused", () => {
  const source = memorySource(8);
  expect(() => new TwoViewLoader(source, { ...options, dtype: "uint8", augmentOn: "cpu" })).toThrow("dtype is uint8, but cpu normalises");
  const erasing = [supervisedRecipe()];
  expect(erasing[0]!.erasing).toBeTruthy();
  expect(() => new ViewLoader(source, erasing, { ...options, dtype: "uint8" })).toThrow(DataOptionError);
  expect(() => new ViewLoader(source, [cropAndFlip()], { ...options, dtype: "uint8" }).close()).not.toThrow();
});

test("the normaliser takes bytes of images alone", () => {
  using normalizer = new PixelNormalizer("cpu");
  torch.scope(() => {
    expect(() => normalizer.apply(torch.zeros([2, 3, 4, 4]))).toThrow("the pixels are float32[2, 3, 4, 4]; give uint8 [N, 3, H, W]");
    expect(() => normalizer.apply(torch.zeros([3, 4, 4], { dtype: "uint8" }))).toThrow(DataOptionError);
  });
});
