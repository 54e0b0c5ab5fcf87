import { createHash } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import {
  DataOptionError, ViewLoader, cropAndFlip, drawView, fitErasing, parseRandAugment, supervisedRecipe, type ImageOperation, type RandAugment,
  type ViewDraw, type ViewLoaderOptions, type ViewRecipe,
} from "../../lib/data/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { memorySource } from "./pixels.js";

expectNoTensorsLeft();

describe("a policy", () => {
  test("is read as timm reads it", () => {
    expect(parseRandAugment("rand-m9-mstd0.5-inc1")).toEqual({
      magnitude: 9, magnitudeStd: 0.5, magnitudeMax: 10, layers: 2, probability: 0.5, increasing: true, fill: [124, 116, 104],
    });
    expect(parseRandAugment("rand")).toMatchObject({ magnitude: 10, magnitudeStd: 0, layers: 2, increasing: false });
    expect(parseRandAugment("rand-n3-p0.8-m15-mmax20-mstd101")).toMatchObject({
      magnitude: 15, magnitudeStd: "uniform", magnitudeMax: 20, layers: 3, probability: 0.8,
    });
    expect(parseRandAugment("none")).toBeNull();
    expect(parseRandAugment("")).toBeNull();
  });

  test.each([
    ["v0", /"v0": only RandAugment is known; give one such as rand-m9-mstd0.5-inc1, or none/],
    ["augmix-m3", /only RandAugment/],
    ["rand-m9.5", /"m9.5" is no whole number from 0 to 1000/],
    ["rand-p1.5", /"p1.5" is no probability/],
    ["rand-n0", /"n0" is no whole number from 1 to 64/],
    ["rand-x3", /"x3" is none of m, n, p, mstd, mmax and inc/],
    ["rand-tweights", /"tweights" is none of/],
    ["rand-m", /"m" is none of/],
  ])("that is wrong is refused: %s", (text, message) => {
    expect(() => parseRandAugment(text)).toThrow(DataOptionError);
    expect(() => parseRandAugment(text)).toThrow(message);
  });
});

describe("draws", () => {
  const n = 20_000;
  const drawsOf = (recipe: ViewRecipe): ViewDraw[] => Array.from({ length: n }, (_, index) => drawView(recipe, { seed: 6, epoch: 2, index, view: 0 }));
  const near = (actual: number, expected: number, count = n): void =>
    expect(Math.abs(actual - expected)).toBeLessThanOrEqual(6 * Math.sqrt((expected * (1 - expected)) / count));
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const draws = drawsOf(supervisedRecipe());
  const operations = draws.flatMap((draw) => draw.operations!);
  const of = (name: string): ImageOperation[] => operations.filter((operation) => operation.name === name);

  test("are DeiT's where nothing else is said", () => {
    expect(draws.every(({ interpolation, jitter, grayscale, blurSigma, solarize }) =>
      interpolation === "bicubic" && jitter === null && !grayscale && blurSigma === null && solarize === null)).toBe(true);
    near(draws.filter(({ flip }) => flip).length / n, 0.5);
    near(draws.filter(({ erase }) => erase).length / n, 0.25);
    for (const [count, expected] of [[0, 0.25], [1, 0.5], [2, 0.25]] as const) {
      near(draws.filter((draw) => draw.operations!.length === count).length / n, expected);
    }
    const names = new Set(operations.map(({ name }) => name));
    expect(names.size).toBe(15);
    for (const name of names) near(of(name).length / operations.length, 1 / 15, operations.length);
  });

  test("have timm's arguments for magnitudes N(9, 0.5) up to 10", () => {
    const expectSigned = (name: string, scale: number): void => {
      const values = of(name).map(({ argument }) => argument);
      near(values.filter((value) => value < 0).length / values.length, 0.5, values.length);
      const sizes = values.map((value) => Math.abs(value) / scale);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(1);
      expect(Math.abs(mean(sizes) - 0.8996)).toBeLessThan(0.006); // cut off at 1, 2.3 % of them
      expect(Math.abs(Math.sqrt(mean(sizes.map((size) => (size - mean(sizes)) ** 2))) - 0.0492)).toBeLessThan(0.004);
    };
    expectSigned("rotate", 30);
    expectSigned("shearX", 0.3);
    expectSigned("shearY", 0.3);
    expectSigned("translateX", 0.45);
    expectSigned("translateY", 0.45);
    for (const name of ["color", "contrast", "brightness", "sharpness"]) {
      const values = of(name).map(({ argument }) => argument);
      expect(Math.min(...values)).toBeGreaterThanOrEqual(0.1);
      expect(Math.max(...values)).toBeLessThanOrEqual(1.9);
      expect(values.every((value) => Math.abs(value - 1) > 0.55)).toBe(true);
      near(values.filter((value) => value < 1).length / values.length, 0.5, values.length);
    }
    // The magnitude reaches 10 with 2.3 %: no bit is left, and all values are inverted.
    expect(new Set(of("posterize").map(({ argument }) => argument))).toEqual(new Set([0, 1, 2]));
    near(of("posterize").filter(({ argument }) => argument === 1).length / of("posterize").length, 0.9759, of("posterize").length);
    expect(of("solarize").every(({ argument }) => argument >= 0 && argument <= 75)).toBe(true);
    near(of("solarize").filter(({ argument }) => argument === 0).length / of("solarize").length, 0.02275, of("solarize").length);
    expect(of("solarizeAdd").every(({ argument }) => argument >= 77 && argument <= 110)).toBe(true);
    expect(of("rotate")[0]).toMatchObject({ interpolation: "bicubic", fill: [124, 116, 104] });
  });

  test("of a policy that does not increase go the other way", () => {
    const fixed = drawsOf(supervisedRecipe({ randAugment: "rand-m8-p1-n1" })).flatMap((draw) => draw.operations!);
    const values = (name: string): Set<number> => new Set(fixed.filter((each) => each.name === name).map(({ argument }) => argument));
    expect(values("posterize")).toEqual(new Set([3]));
    expect(values("solarize")).toEqual(new Set([204]));
    expect(values("solarizeAdd")).toEqual(new Set([88]));
    expect(values("contrast")).toEqual(new Set([0.8 * 1.8 + 0.1]));
    expect(values("rotate")).toEqual(new Set([24, -24]));
    const increasing = drawsOf(supervisedRecipe({ randAugment: "rand-m8-p1-n1-inc1" })).flatMap((draw) => draw.operations!);
    expect(new Set(increasing.filter(({ name }) => name === "solarize").map(({ argument }) => argument))).toEqual(new Set([52]));
    expect(new Set(increasing.filter(({ name }) => name === "posterize").map(({ argument }) => argument))).toEqual(new Set([1]));
  });

  test("are uniform where the deviation says so", () => {
    const fixed = drawsOf(supervisedRecipe({ randAugment: "rand-m6-mstd101-p1-n1" })).flatMap((draw) => draw.operations!);
    const sizes = fixed.filter(({ name }) => name === "rotate").map(({ argument }) => Math.abs(argument) / 18);
    expect(Math.abs(mean(sizes) - 0.5)).toBeLessThan(6 / Math.sqrt(12 * sizes.length));
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1);
  });

  test("of random interpolation choose for the crop and for each operation", () => {
    const mixed = drawsOf(supervisedRecipe({ interpolation: "random" }));
    near(mixed.filter(({ interpolation }) => interpolation === "bicubic").length / n, 0.5);
    const geometric = mixed.flatMap((draw) => draw.operations!).filter(({ interpolation }) => interpolation !== undefined);
    near(geometric.filter(({ interpolation }) => interpolation === "bicubic").length / geometric.length, 0.5, geometric.length);
  });

  test("erase as timm does", () => {
    const boxes = draws.flatMap(({ erase }) => (erase ? [fitErasing(erase.box, 224, 224)!] : []));
    const shares = boxes.map(({ height, width }) => (height * width) / 224 ** 2);
    // Uniform in 2 to 33 % of the area; tall and wide boxes of the largest do not fit.
    expect(Math.min(...shares)).toBeGreaterThan(0.0185);
    expect(Math.max(...shares)).toBeLessThan(0.337);
    expect(Math.abs(mean(shares) - 0.174)).toBeLessThan(0.01);
    const logs = boxes.map(({ height, width }) => Math.log(height / width));
    expect(Math.abs(mean(logs))).toBeLessThan(0.06);
    expect(Math.max(...logs.map(Math.abs))).toBeLessThan(Math.log(1 / 0.3) + 0.06);
    expect(boxes.every(({ top, left, height, width }) => top >= 0 && left >= 0 && top + height <= 224 && left + width <= 224)).toBe(true);
    expect(boxes.some(({ top, height }) => top + height === 224) && boxes.some(({ left }) => left === 0)).toBe(true);
    expect(fitErasing([1, 1, 0, 0, 0.04, 1, 0.5, 0.999], 10, 10)).toEqual({ top: 4, left: 8, height: 2, width: 2 });
    expect(fitErasing([1, 1, 0, 0], 10, 10)).toBeNull();
  });

  test("leave the older ones as they were", () => {
    const key = { seed: 9, epoch: 1, index: 4, view: 0 };
    const { crop, flip } = drawView(cropAndFlip(), key);
    expect(drawView(supervisedRecipe({ interpolation: "random" }), key)).toMatchObject({ crop, flip });
    const jittered = drawView({ ...cropAndFlip(), jitterProbability: 1 }, key);
    const recipe = supervisedRecipe({ randAugment: "none", colorJitter: [0.4, 0.4, 0.2, 0.1], interpolation: "bilinear", erasing: null });
    expect(drawView(recipe, key).jitter).toEqual(jittered.jitter);
    expect(Object.keys(drawView(cropAndFlip(), key))).toEqual(["crop", "jitter", "grayscale", "blurSigma", "solarize", "flip"]);
  });
});

describe("a recipe", () => {
  test("has jitter instead of RandAugment, of one strength, three or four", () => {
    const plain = { randAugment: "none", erasing: null };
    expect(supervisedRecipe({ ...plain, colorJitter: 0.4 })).toMatchObject({ jitterProbability: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0 });
    expect(supervisedRecipe({ ...plain, colorJitter: [0.1, 0.2, 0.3, 0.05] })).toMatchObject({ brightness: 0.1, saturation: 0.3, hue: 0.05 });
    expect(supervisedRecipe({ ...plain, colorJitter: 0 }).jitterProbability).toBe(0);
    expect(supervisedRecipe({ colorJitter: 0.4 }).jitterProbability).toBe(0);
    expect(supervisedRecipe({ erasing: 0.1 }).erasing).toEqual({ probability: 0.1, mode: "pixel", area: [0.02, 1 / 3], ratio: [0.3, 1 / 0.3] });
    expect(supervisedRecipe({ erasing: { mode: "const" } }).erasing).toMatchObject({ probability: 0.25, mode: "const" });
    expect(supervisedRecipe({ erasing: 0 }).erasing).toBeNull();
  });

  test("that makes no sense is refused", () => {
    const refused = (change: Parameters<typeof supervisedRecipe>[0], message: RegExp): void => {
      expect(() => supervisedRecipe(change)).toThrow(DataOptionError);
      expect(() => supervisedRecipe(change)).toThrow(message);
    };
    refused({ colorJitter: [0.4, 0.4] }, /colorJitter has 2 strengths; give one, three or four/);
    refused({ erasing: { area: [0.5, 0.1] } }, /erasing.area is \[0.5,0.1\]/);
    refused({ erasing: { mode: "blur" as "const" } }, /erasing.mode is "blur"; give const or rand or pixel/);
    refused({ erasing: 1.2 }, /erasing.probability is 1.2/);
    refused({ interpolation: "nearest" as "bicubic" }, /interpolation is "nearest"; give bilinear or bicubic or random/);
    refused({ cropScale: [0, 1] }, /cropScale/);
    refused({ randAugment: "original" }, /only RandAugment/);
    const policy: RandAugment = { ...parseRandAugment("rand")!, layers: 1.5 };
    expect(() => new ViewLoader(memorySource(4), [{ ...cropAndFlip(), randAugment: policy }], { batchSize: 2, imageSize: 8, seed: 0 }))
      .toThrow(/randAugment.layers is 1.5/);
  });

  test("gives the same batches with any number of threads", async () => {
    const recipe = supervisedRecipe({ interpolation: "random", randAugment: "rand-m9-mstd0.5-n3-p0.9-inc1", erasing: 0.8 });
    const run = async (options: Partial<ViewLoaderOptions>): Promise<string[]> => {
      await using loader = new ViewLoader(memorySource(24), [recipe], { batchSize: 8, imageSize: 40, seed: 3, ...options });
      const hashes: string[] = [];
      for (const epoch of [0, 1]) {
        for await (using batch of loader.epoch(epoch)) hashes.push(createHash("sha256").update(batch.views[0]!.bytes()).digest("hex"));
      }
      return hashes;
    };
    const expected = await run({ threads: 1, prefetch: 1 });
    expect(new Set(expected).size).toBe(6);
    expect(await run({ threads: 2 })).toEqual(expected);
    expect(await run({ threads: 7, prefetch: 3, cache: true })).toEqual(expected);
    expect(await run({ threads: 2, seed: 4 })).not.toEqual(expected);
  });

  test("is refused where a device augments, but for its interpolation", async () => {
    const options = { batchSize: 2, imageSize: 24, seed: 0, augmentOn: "cpu" };
    expect(() => new ViewLoader(memorySource(4), [supervisedRecipe({ erasing: null })], options)).toThrow(/RandAugment is done by the image threads only/);
    expect(() => new ViewLoader(memorySource(4), [supervisedRecipe({ randAugment: "none" })], options)).toThrow(/random erasing is done by the image threads/);
    const recipe = supervisedRecipe({ randAugment: "none", erasing: null });
    const views: Buffer[] = [];
    for (const augmentOn of ["cpu", undefined]) {
      await using loader = new ViewLoader(memorySource(4), [recipe], { ...options, augmentOn });
      for await (using batch of loader.epoch(0)) views.push(Buffer.from(batch.views[0]!.bytes()));
    }
    expect(views[0]!.equals(views[2]!) && views[1]!.equals(views[3]!)).toBe(true);
  });
});
