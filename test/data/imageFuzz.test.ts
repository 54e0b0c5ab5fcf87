import { beforeAll, expect, test } from "@jest/globals";
import { imageInput, imageSeeds, runImageCampaign } from "../../scripts/fuzz/imageCampaign.js";
import { buildDriver, canBuildDriver } from "../../scripts/fuzz/imageDriver.js";

// Needs a compiler with sanitizers and libjpeg-turbo's headers; `npm run fuzz -- images` says so where they are missing.
const withDriver = canBuildDriver() ? test : test.skip;
let driver = "";
beforeAll(() => {
  if (canBuildDriver()) driver = buildDriver();
});

withDriver("2,000 mutated images under sanitizers: boxes and their views are those of the whole picture; no finding", async () => {
  const result = await runImageCampaign({ program: driver, seed: 20_260, from: 0, inputs: 2000, seconds: 50, workers: 1 });
  expect(result.findings).toEqual([]);
  expect(result.tally.inputs).toBe(2000);
  const { decoded = 0, refused = 0 } = result.tally.depths;
  expect(decoded).toBeGreaterThan(500);
  expect(refused).toBeGreaterThan(500);
  expect(Object.keys(result.tally.kinds).length).toBeGreaterThan(20);
  expect(Object.keys(result.strategies).length).toBeGreaterThan(20);
});

withDriver("an input of a seed is always the same, and others are others", () => {
  const seeds = imageSeeds(driver);
  expect(seeds.length).toBeGreaterThan(300);
  expect(imageInput(seeds, 7, 123)).toEqual(imageInput(seeds, 7, 123));
  const bytes = Array.from({ length: 50 }, (_, index) => imageInput(seeds, 7, index).bytes.toString("latin1"));
  expect(new Set(bytes).size).toBeGreaterThan(45);
});
