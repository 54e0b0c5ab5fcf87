/** Views of labelled images, one or several of each, and batches of all of them, the last one short. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import {
  cropAndFlip, drawView, fitView, ImageFolder, isStream, TooFewImagesError, ViewLoader, viewRecipes,
  type ImageSource, type ImageStream, type ViewLoaderOptions,
} from "../../lib/data/index.js";
import { writeDigits } from "../support/digits.js";
import { readJson } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { memorySource, synthetic } from "./pixels.js";

expectNoTensorsLeft();
const folder = temporaryFolder("views");
let digits: ImageFolder;
beforeAll(async () => {
  await writeDigits(folder, { count: 60 });
  digits = await ImageFolder.open(folder, { split: "train" });
});

const options: ViewLoaderOptions = { batchSize: 10, imageSize: 16, seed: 5, threads: 2, dropLast: false };

interface Batch {
  step: number;
  size: number;
  labels: (number | null)[];
  indices: number[];
  views: string[];
}

async function run(
  source: ImageSource | ImageStream, changes: Partial<ViewLoaderOptions> = {}, { recipes = [cropAndFlip()], epoch = 0, startStep = 0 } = {},
): Promise<Batch[]> {
  await using loader = new ViewLoader(source, recipes, { ...options, ...changes });
  const batches: Batch[] = [];
  for await (using batch of loader.epoch(epoch, startStep)) {
    const { step, labels, indices, views } = batch;
    expect(views.every((view) => view.size(0) === indices.length)).toBe(true);
    const contents = views.map((view) => Buffer.from(view.bytes()).toString("base64"));
    batches.push({ step, size: views[0]!.size(0), labels, indices, views: contents });
  }
  expect(loader.stepsPerEpoch).toBe(startStep + batches.length);
  return batches;
}

/** Images whose label is their number modulo 3, in an order of their own. */
const stream = (length: number, bad: readonly number[] = []): ImageStream => ({
  length, classes: ["a", "b", "c"],
  async *stream({ epoch }) {
    for (let i = 0; i < length; i++) {
      const id = (i * 5 + epoch) % length;
      yield { id, name: `image ${id}`, label: id % 3, image: bad.includes(id) ? Promise.reject(new Error("broken on purpose")) : synthetic(id) };
    }
  },
});

describe.each<[string, () => ImageSource | ImageStream, number]>([
  ["a folder", () => digits, 48], ["a stream", () => stream(23), 23], ["less than a batch", () => memorySource(7), 7],
])("without dropping the last images: %s", (_, source, length) => {
  test("every image comes once in an epoch, with its label, the last batch as short as it is", async () => {
    const images = source();
    const batches = await run(images);
    const expected = Array.from({ length: Math.ceil(length / 10) }, (_, step) => Math.min(10, length - 10 * step));
    expect(batches.map(({ size }) => size)).toEqual(expected);
    expect(batches.map(({ step }) => step)).toEqual(expected.map((_, step) => step));
    const all = batches.flatMap(({ indices }) => indices);
    expect([...all].sort((a, b) => a - b)).toEqual(Array.from({ length }, (_, i) => i));
    const label = (id: number): number | null => (isStream(images) ? id % 3 : (images.label?.(id) ?? null));
    expect(batches.flatMap(({ labels }) => labels)).toEqual(all.map(label));
    // Memory that is used again must not carry one batch into another.
    const views = batches.flatMap((batch) => batch.views);
    expect(new Set(views).size).toBe(views.length);
  });

  test("a start in the middle goes on with the same batches; the end may be the start", async () => {
    const whole = await run(source(), {}, { epoch: 1 });
    for (let startStep = 0; startStep <= whole.length; startStep++) {
      expect(await run(source(), {}, { epoch: 1, startStep })).toEqual(whole.slice(startStep));
    }
  });

  test("threads and prefetching change nothing", async () => {
    expect(await run(source(), { threads: 1, prefetch: 1 })).toEqual(await run(source(), { threads: 4, prefetch: 4 }));
  });
});

test.each<[string, ImageSource | ImageStream]>([["a source", memorySource(23, [4, 9, 20])], ["a stream", stream(23, [4, 9, 20])]])(
  "unreadable images of %s are left out and made up for from the epoch's beginning", async (_, source) => {
    const batches = await run(source, { maxBad: 0.2 });
    expect(batches.map(({ size }) => size)).toEqual([10, 10, 3]);
    const all = batches.flatMap(({ indices }) => indices);
    expect(all.slice(20)).toEqual(all.slice(0, 3));
    expect([new Set(all).size, all.filter((id) => [4, 9, 20].includes(id))]).toEqual([20, []]);
    expect(await run(source, { maxBad: 0.2, knownBad: [4, 9, 20] }, { startStep: 2 })).toEqual(batches.slice(2));
  },
);

test("dropping them, the default, leaves whole batches, and too few images are refused", async () => {
  expect((await run(digits, { dropLast: true })).map(({ size }) => size)).toEqual([10, 10, 10, 10]);
  expect(() => new ViewLoader(memorySource(7), [cropAndFlip()], { ...options, dropLast: true })).toThrow(TooFewImagesError);
  expect(() => new ViewLoader(memorySource(0), [cropAndFlip()], options)).toThrow(TooFewImagesError);
});

test("as many views as there are recipes, each drawn for itself", async () => {
  const three = await run(digits, {}, { recipes: [cropAndFlip(), cropAndFlip(), ...viewRecipes().slice(0, 1)] });
  expect(three[0]!.views).toHaveLength(3);
  expect(new Set(three[0]!.views).size).toBe(3);
  const one = await run(digits);
  expect(one[0]!.views[0]).toBe(three[0]!.views[0]);
});

interface CropStatistics {
  image_wh: [number, number];
  scale: [number, number];
  ratio: [number, number];
  draws: number;
  stats: Record<string, { mean: number; std: number }>;
}

test("crops and flips of supervised training are torchvision's, and nothing else happens to an image", () => {
  const golden = readJson<CropStatistics[]>("augment/rrc_stats.json").filter(({ scale, ratio }) =>
    scale[0] === 0.08 && scale[1] === 1 && ratio[0] === 3 / 4 && ratio[1] === 4 / 3);
  expect(golden.length).toBeGreaterThan(0);
  for (const { image_wh: [width, height], draws, stats } of golden) {
    const areas: number[] = [];
    let flips = 0;
    for (let index = 0; index < draws; index++) {
      const { crop, flip, ...rest } = fitView(drawView(cropAndFlip(), { seed: 2, epoch: 0, index, view: 0 }), width, height);
      expect(rest).toEqual({ jitter: null, grayscale: false, blurSigma: null, solarize: null });
      areas.push((crop.width * crop.height) / (width * height));
      if (flip) flips++;
    }
    // Six standard errors each: of the mean of two samples, and of a fair coin.
    const mean = areas.reduce((sum, area) => sum + area, 0) / draws;
    const { mean: expected, std } = stats.area_fraction!;
    expect(Math.abs(mean - expected)).toBeLessThan(6 * std * Math.sqrt(2 / draws));
    expect(Math.abs(flips / draws - 0.5)).toBeLessThan(3 / Math.sqrt(draws));
  }
});
