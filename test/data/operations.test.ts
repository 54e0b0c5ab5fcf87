/** RandAugment's operations, bicubic resampling and erasing, against golden pixels of Pillow and against each other. */
import { createHash } from "node:crypto";
import { afterAll, afterEach, describe, expect, test } from "@jest/globals";
import {
  DataOptionError, ImagePool, loadImages, philox, type Box, type DecodedImage, type Erasing, type ImageOperation, type ImageSource,
  type Interpolation, type OperationName, type RandomKey, type Rendering,
} from "../../lib/data/index.js";
import { RandomStream } from "../../lib/data/random.js";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import { readJson } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { difference, golden, goldenImage, interleaved, same, synthetic } from "./pixels.js";

interface Manifest {
  tile: Box;
  operations: { operation: ImageOperation; offset: number }[];
  crops: { crop: Box; height: number; width: number; offset: number }[];
  evaluation: { sha256: string };
  views: { crop: Box; interpolation: Interpolation; flip: boolean; operations: ImageOperation[]; sha256: string }[];
}

expectNoTensorsLeft();
const manifest = readJson<Manifest>("augment/operations/manifest.json");
const pixels = golden("operations/pixels.npz").data;
const photo = goldenImage("decoded/china.jpg.npz");
const pool = new ImagePool(2);
afterAll(() => pool.close());
afterEach(() => native.usePlainKernels(false));

async function values<T>(
  image: DecodedImage, look: Partial<Rendering>, height: number, width: number, dtype: "uint8" | "float32",
): Promise<T> {
  const out = torch.empty([1, 3, height, width], { dtype });
  try {
    const [outcome] = await pool.render([{ image, renderings: [{ output: 0, row: 0, ...look }] }], [out]);
    if ("reason" in outcome!) throw new Error(outcome.reason);
    return out.data() as T;
  } finally {
    out.dispose();
  }
}

async function bytes(image: DecodedImage, look: Partial<Rendering>, height: number, width: number): Promise<Uint8Array> {
  return interleaved(await values<Uint8Array>(image, look, height, width, "uint8"), height * width);
}

const floats = (image: DecodedImage, look: Partial<Rendering>, height: number, width: number): Promise<Float32Array> =>
  values(image, look, height, width, "float32");

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
const bodies = [["for this processor", false], ["plain", true]] as const;

describe.each(bodies)("pixels are Pillow's, bit for bit (kernels %s)", (_, plain) => {
  const { height, width } = manifest.tile;

  test.each([...new Set(manifest.operations.map(({ operation }) => operation.name))])("%s", async (name) => {
    native.usePlainKernels(plain);
    for (const { operation, offset } of manifest.operations.filter((each) => each.operation.name === name)) {
      const expected = pixels.subarray(offset, offset + 3 * height * width);
      const actual = await bytes(photo, { crop: manifest.tile, operations: [operation] }, height, width);
      expect({ operation, ...difference(actual, expected) }).toEqual({ operation, ...same });
    }
  });

  test("bicubic crops", async () => {
    native.usePlainKernels(plain);
    for (const { crop, height: to, width: across, offset } of manifest.crops) {
      const actual = await bytes(photo, { crop, interpolation: "bicubic" }, to, across);
      expect({ crop, ...difference(actual, pixels.subarray(offset, offset + 3 * to * across)) }).toEqual({ crop, ...same });
    }
  });

  test("Resize(256) and CenterCrop(224), bicubic", async () => {
    native.usePlainKernels(plain);
    expect(sha256(await bytes(photo, { resizing: { shorter: 256 }, interpolation: "bicubic" }, 224, 224))).toBe(manifest.evaluation.sha256);
  });

  test("whole views of 224 pixels: crop, flip, then the operations", async () => {
    native.usePlainKernels(plain);
    for (const { sha256: expected, ...view } of manifest.views) {
      expect({ view, sha256: sha256(await bytes(photo, view, 224, 224)) }).toEqual({ view, sha256: expected });
    }
  });
});

test("evaluation takes the interpolation, and knows its names", async () => {
  const source: ImageSource = { length: 1, image: () => photo };
  const images = await loadImages(source, [0], { imageSize: 224, resizeShorter: 256, interpolation: "bicubic" });
  const expected = await floats(photo, { resizing: { shorter: 256 }, interpolation: "bicubic" }, 224, 224);
  expect(Buffer.compare(images.bytes(), Buffer.from(expected.buffer))).toBe(0);
  images.dispose();
  const wrong = loadImages(source, [0], { imageSize: 224, interpolation: "lanczos" as Interpolation });
  await expect(wrong).rejects.toThrow(/interpolation is "lanczos"; give bilinear or bicubic/);
  await expect(bytes(photo, { interpolation: "box" as Interpolation }, 8, 8)).rejects.toThrow(DataOptionError);
});

const random = new RandomStream({ seed: 2, epoch: 0, index: 0, stream: 0 });
const within = (low: number, high: number): number => low + random.integer(high - low + 1);
const names: OperationName[] = [...new Set(manifest.operations.map(({ operation }) => operation.name))];
const whole: Partial<Record<OperationName, number>> = { posterize: 8, solarize: 256, solarizeAdd: 255 };

function operation(): ImageOperation {
  const name = names[random.integer(names.length)]!;
  const most = whole[name];
  const argument = most !== undefined ? within(0, most) : random.uniform(-1, 1) * (name === "rotate" ? 180 : 1.5);
  return { name, argument, interpolation: random.integer(2) ? "bicubic" : "bilinear", fill: [within(0, 255), within(0, 255), within(0, 255)] };
}

test("both bodies of the kernels give the same bytes and floats", async () => {
  for (let i = 0; i < 250; i++) {
    const image = synthetic(i, within(1, 150), within(1, 110));
    const [height, width] = [within(1, 70), within(1, 70)];
    const erase: Erasing = {
      box: { top: 0, left: 0, height: within(0, height), width: within(0, width) }, mode: (["const", "rand", "pixel"] as const)[i % 3]!,
      noise: { seed: i, epoch: 1, index: i, stream: 7 },
    };
    const look: Partial<Rendering> = {
      interpolation: random.integer(2) ? "bicubic" : "bilinear", flip: random.integer(2) === 1, grayscale: random.integer(4) === 0,
      operations: Array.from({ length: within(0, 3) }, operation),
    };
    const results: Buffer[][] = [];
    for (const [, plain] of bodies) {
      native.usePlainKernels(plain);
      const erased = await floats(image, { ...look, erase }, height, width);
      results.push([Buffer.from(await bytes(image, look, height, width)), Buffer.from(erased.buffer)]);
    }
    expect({ i, look, same: results[0]!.map((each, k) => each.equals(results[1]![k]!)) }).toEqual({ i, look, same: [true, true] });
  }
});

test("a flip comes before the operations, and is the same wherever else it comes", async () => {
  const turned: ImageOperation[] = [{ name: "rotate", argument: 20 }];
  const toned: ImageOperation[] = [{ name: "equalize", argument: 0 }, { name: "sharpness", argument: 1.7 }, { name: "color", argument: 0.3 }];
  const size = 40;
  const mirror = (image: Uint8Array): Uint8Array =>
    image.map((_, i) => image[3 * (Math.floor(i / 3 / size) * size + size - 1 - (Math.floor(i / 3) % size)) + (i % 3)]!);
  for (const [operations, commutes] of [[turned, false], [toned, true]] as const) {
    const straight = await bytes(photo, { operations }, size, size);
    const flipped = await bytes(photo, { operations, flip: true }, size, size);
    expect(difference(mirror(straight), flipped).different === 0).toBe(commutes);
    const image = { data: mirror(await bytes(photo, {}, size, size)), height: size, width: size };
    expect(difference(await bytes(image, { operations }, size, size), flipped)).toEqual(same);
  }
});

describe("erasing", () => {
  const noise: RandomKey = { seed: 2 ** 40 + 5, epoch: 3, index: 17, stream: 8 };
  const box = { top: 5, left: 7, height: 30, width: 41 };
  const size = 60;
  const inside = (i: number): boolean => {
    const x = i % size, y = Math.floor(i / size) % size;
    return y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
  };

  test.each(["const", "rand", "pixel"] as const)("overwrites its box of the normalised view and nothing else (%s)", async (mode) => {
    for (const flip of [false, true]) {
      const before = await floats(photo, { flip }, size, size);
      const after = await floats(photo, { flip, erase: { box, mode, noise } }, size, size);
      const erased = [...after.keys()].filter(inside).map((i) => after[i]!);
      expect([...after.keys()].every((i) => inside(i) || after[i] === before[i])).toBe(true);
      const distinct = new Set(erased);
      if (mode === "const") expect([...distinct]).toEqual([0]);
      else if (mode === "rand") expect(distinct.size).toBe(3);
      else expect(distinct.size).toBeGreaterThan(0.99 * erased.length);
    }
  });

  test("takes its noise from the generator of everything else, by Box and Muller's transform", async () => {
    const after = await floats(photo, { erase: { box, mode: "pixel", noise } }, size, size);
    const erased = [...after.keys()].filter(inside).map((i) => after[i]!);
    for (let i = 0; i + 4 <= erased.length; i += 4) {
      const words = [2 ** 31 + i / 4, noise.stream, noise.index, noise.epoch];
      philox(words, noise.seed >>> 0, Math.floor(noise.seed / 2 ** 32));
      const [a, b, c, d] = words.map((word) => word >>> 8) as [number, number, number, number];
      const pair = (first: number, second: number): number[] => {
        const radius = Math.sqrt(-2 * Math.log((first + 1) / 2 ** 24)), angle = (2 * Math.PI * second) / 2 ** 24;
        return [radius * Math.cos(angle), radius * Math.sin(angle)];
      };
      // Both words of each pair are used: the first and second with their cosines before their sines.
      const expected = [...pair(a, b), ...pair(c, d)];
      expected.forEach((value, k) => expect(Math.abs(erased[i + k]! - value)).toBeLessThan(2e-6));
    }
  });

  test("noise is normal: moments and tails", async () => {
    const view = 512;
    const all = { box: { top: 0, left: 0, height: view, width: view }, mode: "pixel" as const, noise };
    const drawn = await floats(synthetic(1), { erase: all }, view, view);
    const n = drawn.length;
    const moment = (power: number): number => drawn.reduce((sum, value) => sum + value ** power, 0) / n;
    const near = (actual: number, expected: number, deviation: number): void =>
      expect(Math.abs(actual - expected)).toBeLessThan((5 * deviation) / Math.sqrt(n));
    near(moment(1), 0, 1);
    near(moment(2), 1, Math.sqrt(2));
    near(moment(3), 0, Math.sqrt(15));
    near(moment(4), 3, Math.sqrt(96));
    const beyond = (limit: number): number => drawn.filter((value) => Math.abs(value) > limit).length / n;
    near(beyond(1), 0.3173105, 0.4654);
    near(beyond(3), 0.0026998, 0.0519);
    expect(drawn.every((value) => Math.abs(value) < 5.8)).toBe(true);
  });

  test("is refused outside of the view and of bytes", async () => {
    const attempt = (change: Partial<Erasing>): Promise<unknown> => floats(photo, { erase: { box, mode: "const", noise, ...change } }, size, size);
    await expect(attempt({ box: { ...box, left: 20 } })).rejects.toThrow(/to erase is not inside the view of 60 x 60 pixels/);
    await expect(bytes(photo, { erase: { box, mode: "const", noise } }, size, size)).rejects.toThrow(/give a float32 output/);
  });
});

test("arguments that make no sense are refused", async () => {
  const attempt = (name: string, argument: number): Promise<unknown> =>
    bytes(photo, { operations: [{ name: name as OperationName, argument }] }, 8, 8);
  await expect(attempt("posterize", 9)).rejects.toThrow(/argument of posterize is 9; give a whole number from 0 to 8/);
  await expect(attempt("solarize", 3.5)).rejects.toThrow(/argument of solarize is 3.5; give a whole number from 0 to 256/);
  await expect(attempt("rotate", NaN)).rejects.toThrow(/argument of rotate is NaN/);
  await expect(attempt("cutout", 1)).rejects.toThrow(/no operation "cutout"/);
});
