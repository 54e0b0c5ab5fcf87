import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import {
  DataOptionError, ImageFolder, TooFewImagesError, TooManyBadImagesError, TwoViewLoader, type ImageSource, type TwoViewOptions,
} from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { memorySource, png, synthetic, withFolder } from "./pixels.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

interface Step {
  step: number;
  indices: number[];
  hashes: string[];
}

const options: TwoViewOptions = { batchSize: 4, imageSize: 24, seed: 11, threads: 2 };

async function collect(loader: TwoViewLoader, epoch: number, startStep = 0): Promise<Step[]> {
  const steps: Step[] = [];
  for await (const { views, indices, step, waitMs } of loader.epoch(epoch, startStep)) {
    expect(waitMs).toBeGreaterThanOrEqual(0);
    steps.push({ step, indices, hashes: views.map((view) => createHash("sha256").update(view.bytes()).digest("hex")) });
    views.forEach((view) => view.dispose());
  }
  return steps;
}

async function run(source: ImageSource, changes: Partial<TwoViewOptions> = {}, epoch = 0, startStep = 0): Promise<Step[]> {
  const loader = new TwoViewLoader(source, { ...options, ...changes });
  try {
    return await collect(loader, epoch, startStep);
  } finally {
    await loader.close();
  }
}

describe("batches", () => {
  test("hold two normalised views of every image once", async () => {
    const loader = new TwoViewLoader(memorySource(14), { ...options, imageSize: [20, 28] });
    expect(loader.stepsPerEpoch).toBe(3);
    const seen: number[] = [];
    let steps = 0;
    for await (const { views, indices, step } of loader.epoch(0)) {
      expect(step).toBe(steps++);
      for (const view of views) {
        expect([view.shape, view.dtype, view.device]).toEqual([[4, 3, 20, 28], "float32", "cpu"]);
        const values = view.data() as Float32Array;
        expect(Math.min(...values)).toBeGreaterThanOrEqual(-2.12);
        expect(Math.max(...values)).toBeLessThanOrEqual(2.65);
      }
      expect(views[0].data()).not.toEqual(views[1].data());
      seen.push(...indices);
      views.forEach((view) => view.dispose());
    }
    await loader.close();
    expect([seen.length, new Set(seen).size]).toEqual([12, 12]);
  });

  test("that are to go to the CPU stay there, as they are", async () => {
    expect(await run(memorySource(14), { copyTo: "cpu" })).toEqual(await run(memorySource(14)));
  });

  test("are the same for any number of threads, any prefetching and any caching", async () => {
    const expected = await run(memorySource(22), { threads: 1, prefetch: 1 });
    expect(expected).toHaveLength(5);
    expect(await run(memorySource(22), { threads: 2, prefetch: 4 })).toEqual(expected);
    expect(await run(memorySource(22), { threads: 16, cache: true })).toEqual(expected);
  });

  test("differ between epochs and seeds", async () => {
    const hashes = async (changes: Partial<TwoViewOptions>, epoch: number): Promise<string> =>
      (await run(memorySource(8), changes, epoch))[0]!.hashes[0]!;
    expect(new Set([await hashes({}, 0), await hashes({}, 1), await hashes({ seed: 12 }, 0)]).size).toBe(3);
  });

  test("are the same after a restart in the middle of an epoch", async () => {
    const expected = await run(memorySource(22), {}, 3);
    for (const startStep of [1, 4, 5]) expect(await run(memorySource(22), {}, 3, startStep)).toEqual(expected.slice(startStep));
  });

  test("with repeats hold each image several times in a row, each time with other views", async () => {
    const [plain, repeated] = [await run(memorySource(12), { batchSize: 1 }), await run(memorySource(12), { batchSize: 1, repeats: 3 })];
    const [a, b, c, d] = plain.map(({ indices }) => indices[0]);
    expect(repeated.map(({ indices }) => indices[0])).toEqual([a, a, a, b, b, b, c, c, c, d, d, d]);
    expect(new Set(repeated.flatMap(({ hashes }) => hashes)).size).toBe(24);
    expect(repeated[0]!.hashes).toEqual(plain[0]!.hashes); // the first copy's are those of one that comes once
    expect(await run(memorySource(12), { batchSize: 1, repeats: 3 }, 0, 7)).toEqual(repeated.slice(7));
  });

  test("do not care in what order a source answers", async () => {
    const slow: ImageSource = {
      ...memorySource(22),
      image: async (index) => {
        await new Promise((resolve) => setTimeout(resolve, (index * 7) % 13));
        return synthetic(index);
      },
    };
    expect(await run(slow)).toEqual(await run(memorySource(22)));
  });

  test("are the same when a device augments the crops", async () => {
    const photographs: ImageSource = { length: 22, image: (index) => fixturePath(`augment/files/${index % 2 ? "china.jpg" : "gray.jpg"}`) };
    for (const source of [photographs, memorySource(22, [5])]) {
      const changes = { imageSize: 48, maxBad: 0.1 };
      expect(await run(source, { ...changes, augmentOn: "cpu" }, 1, 2)).toEqual(await run(source, changes, 1, 2));
    }
  });

  test("use their memory again, unless somebody still holds it", async () => {
    const loader = new TwoViewLoader(memorySource(80), { ...options, prefetch: 1 });
    const memory = new Set<bigint>();
    const held: torch.Tensor[] = [];
    for await (using batch of loader.epoch(0)) {
      const [first] = batch.views;
      memory.add(torch.storageOf(first).id);
      if (batch.step === 3) held.push(torch.keep(first.select(0, 1)));
    }
    // Two pairs go round, and another takes the place of the one that is held.
    expect(memory.size).toBeLessThanOrEqual(4);
    const before = held[0]!.bytes();
    for await (using batch of loader.epoch(1)) expect(torch.storageOf(batch.views[0]).id).not.toBe(torch.storageOf(held[0]!).id);
    expect(held[0]!.bytes()).toEqual(before);
    held[0]!.dispose();
    await loader.close();
  });

  test("of all ranks together are those of one", async () => {
    const whole = await run(memorySource(24), { batchSize: 8 });
    const ranks = await Promise.all([0, 1].map((rank) => run(memorySource(24), { batchSize: 4, rank, worldSize: 2 })));
    whole.forEach(({ indices }, step) => {
      expect(indices.filter((_, i) => i % 2 === 0)).toEqual(ranks[0]![step]!.indices);
      expect(indices.filter((_, i) => i % 2 === 1)).toEqual(ranks[1]![step]!.indices);
    });
  });

  test("come from the cache in later epochs", async () => {
    const source = memorySource(12);
    const loader = new TwoViewLoader(source, { ...options, cache: true });
    const first = await collect(loader, 0);
    expect(first.flatMap((step) => step.indices)).toHaveLength(12);
    const reads = source.reads;
    expect(reads).toBe(12);
    await collect(loader, 1);
    expect(source.reads).toBe(reads);
    expect(await collect(loader, 0)).toEqual(first);
    await loader.close();
  });

  test("stop cleanly when the consumer does", async () => {
    const loader = new TwoViewLoader(memorySource(40), options);
    for await (const { views } of loader.epoch(0)) {
      views.forEach((view) => view.dispose());
      break;
    }
    expect((await collect(loader, 0)).length).toBe(10);
    const open = loader.epoch(1);
    const { value } = await open.next();
    value!.views.forEach((view) => view.dispose());
    await loader.close();
    await expect(open.next()).rejects.toThrow(/closed/);
    await expect(loader.epoch(0).next()).rejects.toThrow(/closed/);
    await loader.close();
  });

  test("of one epoch go on when another is left", async () => {
    const loader = new TwoViewLoader(memorySource(60), options);
    const [left, kept] = [loader.epoch(0), loader.epoch(1)];
    const steps: Step[] = [];
    for await (const { views, indices, step } of kept) {
      steps.push({ step, indices, hashes: views.map((view) => createHash("sha256").update(view.bytes()).digest("hex")) });
      views.forEach((view) => view.dispose());
      if (step === 1) (await left.next()).value!.views.forEach((view) => view.dispose());
      if (step === 3) await left.return();
    }
    expect(steps).toEqual(await collect(loader, 1));
    await loader.close();
  });

  test("survive a scope that the consumer has open", async () => {
    const loader = new TwoViewLoader(memorySource(16), options);
    const batches = loader.epoch(0);
    const first = await torch.scope(() => ({ promise: batches.next() })).promise;
    const views = first.value!.views;
    expect(views[0].data().length).toBe(4 * 3 * 24 * 24);
    views.forEach((view) => view.dispose());
    await batches.return();
    await loader.close();
  });
});

describe("bad images", () => {
  test("are named, counted and skipped; batches stay full", async () => {
    const good = await run(memorySource(22));
    const order = good.flatMap((step) => step.indices);
    const bad = [order[1]!, order[6]!];
    const source = memorySource(22, bad);
    const loader = new TwoViewLoader(source, { ...options, maxBad: 0.1 });
    const steps = await collect(loader, 0);
    expect(loader.bad).toEqual(bad.map((index) => ({ index, name: `image ${index}`, reason: "broken on purpose" })));
    expect(steps.map((step) => step.indices.length)).toEqual([4, 4, 4, 4, 4]);
    const seen = steps.flatMap((step) => step.indices);
    expect(seen.slice(0, 18)).toEqual(order.filter((index) => !bad.includes(index)));
    expect(new Set(seen).size).toBe(20);
    // A view depends on its sample only, not on its place.
    expect(await collect(loader, 0)).toEqual(steps);
    await loader.close();

    const restarts = [2, 4].flatMap((startStep) => [
      { startStep, changes: {} },
      { startStep, changes: { knownBad: bad } },
    ]);
    for (const { startStep, changes } of restarts) {
      expect(await run(memorySource(22, bad), { maxBad: 0.1, ...changes }, 0, startStep)).toEqual(steps.slice(startStep));
    }
  });

  test("that shorten the epoch are made up for from its beginning", async () => {
    const bad = [3];
    const steps = await run(memorySource(8, bad), { maxBad: 0.2 });
    const seen = steps.flatMap((step) => step.indices);
    expect(seen).toHaveLength(8);
    expect(seen).not.toContain(3);
    expect(seen[7]).toBe(seen[0]);
  });

  test("beyond the limit stop the run with the list", async () => {
    const attempt = run(memorySource(200, [1, 2, 3]), { maxBad: 0.01 });
    await expect(attempt).rejects.toThrow(TooManyBadImagesError);
    const error = (await attempt.catch((e: unknown) => e)) as TooManyBadImagesError;
    expect(error.bad.map((image) => image.index).sort()).toEqual([1, 2, 3]);
    expect(error.message).toMatch(/3 of 200 images.*limit of 1 %/);
    expect(error.message).toMatch(/image 2: broken on purpose/);
    expect(error.message).toMatch(/--max-bad/);
    expect(await run(memorySource(200, [1, 2]), { maxBad: 0.01 })).toHaveLength(50);
  });

  test("all of them stop the run whatever the limit", async () => {
    const all = Array.from({ length: 8 }, (_, i) => i);
    await expect(run(memorySource(8, all), { maxBad: 1 })).rejects.toThrow(TooManyBadImagesError);
  });

  test("on disk: truncated, empty, mislabelled, vanished", async () => {
    const photo = readFileSync(fixturePath("augment/files/restart_420.jpg"));
    const files: Record<string, Uint8Array | string> = {
      "00_truncated.jpg": photo.subarray(0, 3000), "01_empty.png": "", "02_text.jpg": "not an image",
      "03_png_named.jpg": await png(synthetic(1)), "04_jpeg_named.png": photo,
    };
    for (let i = 10; i < 40; i++) files[`${i}.png`] = await png(synthetic(i));
    await withFolder(files, async (folder) => {
      const images = await ImageFolder.open(folder);
      const loader = new TwoViewLoader(images, { ...options, maxBad: 0.2 });
      const seen = (await collect(loader, 0)).flatMap((step) => step.indices);
      expect(loader.bad.map((image) => image.name).sort()).toEqual(["00_truncated.jpg", "01_empty.png", "02_text.jpg"]);
      expect(seen).toHaveLength(32);
      expect(new Set(seen).size).toBe(32);
      expect(loader.bad.find((image) => image.index === 1)!.reason).toMatch(/empty/);
      await loader.close();
    });
  });

  test("a source that gives too few bytes is told so", async () => {
    const source: ImageSource = { ...memorySource(8), image: async () => ({ data: new Uint8Array(5), width: 2, height: 2 }) };
    await expect(run(source)).rejects.toThrow(/5 bytes for 2 x 2 pixels/);
  });
});

describe("options", () => {
  test("outside their ranges are refused before anything starts", () => {
    const make = (changes: Partial<TwoViewOptions>) => () => new TwoViewLoader(memorySource(8), { ...options, ...changes });
    expect(make({ batchSize: 9 })).toThrow(TooFewImagesError);
    expect(make({ batchSize: 5, worldSize: 2 })).toThrow(TooFewImagesError);
    const outside: Partial<TwoViewOptions>[] = [
      { batchSize: 0 }, { imageSize: 0 }, { imageSize: [24, 1.5] }, { prefetch: 0 }, { seed: -1 }, { maxBad: 2 }, { threads: 0 }, { rank: 1 },
    ];
    for (const changes of outside) expect(make(changes)).toThrow(DataOptionError);
  });
});
