import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "@jest/globals";
import { DeviceAugmentation } from "../../lib/data/augmentation/deviceAugmentation.js";
import type { PixelParameters } from "../../lib/data/augmentation/devicePlan.js";
import { DataOptionError, ImagePool, RandomStream, decodeImage, type DecodedImage, type JitterParameters } from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { drawPixelParameters, neutral, nothing } from "../support/pixelParameters.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

// Registered first: it runs before the tensors are counted.
afterAll(() => {
  pool.close();
  augmentation.dispose();
});
expectNoTensorsLeft();

const pool = new ImagePool(2);
const augmentation = new DeviceAugmentation("cpu");

const files = ["china.jpg", "flower.jpg"].map((name) => readFileSync(fixturePath(`augment/files/${name}`)));
const photographs = await Promise.all(files.map((file) => decodeImage(file)));

const random = new RandomStream({ seed: 11, epoch: 0, index: 0, stream: 0 });

/** `count` parts of the photographs, at places that repeat from call to call, and what the CPU kernels make of them. */
async function both(
  parameters: readonly PixelParameters[], height: number, width: number, images: readonly DecodedImage[] = photographs,
): Promise<{ crops: torch.Tensor; expected: torch.Tensor }> {
  const crops = torch.empty([parameters.length, 3, height, width], { dtype: "uint8" });
  const expected = torch.empty([parameters.length, 3, height, width], { dtype: "float32" });
  const requests = parameters.map((one, row) => {
    const image = images[row % images.length]!;
    const crop = {
      top: (row * 37) % (image.height - height + 1), left: (row * 53) % (image.width - width + 1), height, width,
    };
    const place = { row, crop, resizing: { height, width, top: 0, left: 0 } };
    return { image, renderings: [{ output: 0, ...place }, { output: 1, ...place, ...one }] };
  });
  await pool.render(requests, [crops, expected]);
  return { crops, expected };
}

/** How many values differ from those of the CPU kernels. */
async function differing(parameters: readonly PixelParameters[], height = 61, width = 80, images = photographs): Promise<number> {
  const { crops, expected } = await both(parameters, height, width, images);
  const actual = augmentation.apply(crops, parameters);
  const count = torch.scope(() => torch.ne(actual, expected).sum().item());
  for (const each of [crops, expected, actual]) each.dispose();
  return count;
}

const draw = (): PixelParameters => drawPixelParameters(random, 2);

describe("each operation is the CPU kernel's, bit for bit", () => {
  const jitters = (operation: 0 | 1 | 2 | 3, name: "brightness" | "contrast" | "saturation" | "hue", values: number[]): PixelParameters[] =>
    values.map((value) => ({ ...nothing, jitter: { ...neutral, order: [operation], [name]: value } }));
  const uniform = (from: number, to: number): number[] => Array.from({ length: 24 }, () => random.uniform(from, to));
  const factors = [0, 0.1, 0.6, 0.999, 1, 1.0001, 1.4, 3, ...uniform(0.6, 1.4)];

  test.each([
    ["brightness", jitters(0, "brightness", factors)],
    ["contrast", jitters(1, "contrast", factors)],
    ["saturation", jitters(2, "saturation", factors)],
    ["hue", jitters(3, "hue", [-0.5, -0.1, -0.004, -0.003, 0, 0.003, 0.004, 0.1, 0.5, ...uniform(-0.1, 0.1)])],
    ["grayscale", [{ ...nothing, grayscale: true }]],
    ["blur", [0, 0.01, 0.1, 0.75, 1.4142, 1.4143, 2, ...uniform(0.1, 2)].map((blurSigma) => ({ ...nothing, blurSigma }))],
    ["blur beyond the recipe", [2.4, 3, 4.9, 9.5, 40, 1000].map((blurSigma) => ({ ...nothing, blurSigma }))],
    ["solarize", [0, 1, 127, 128, 255, 256].map((solarize) => ({ ...nothing, solarize }))],
    ["flip", [{ ...nothing, flip: true }, nothing]],
    ["nothing", [nothing, nothing, nothing]],
  ])("%s", async (_, parameters) => {
    expect(await differing(parameters)).toBe(0);
  });

  test("a blur whose sums end in ties: the weights of sigma 0.75 sum to one less than 2^24", async () => {
    const data = Uint8Array.of(0, 0, 21, 100, 245, 5, 0, 0, 0);
    expect(await differing([{ ...nothing, blurSigma: 0.75 }], 1, 3, [{ data, width: 3, height: 1 }])).toBe(0);
  });

  test("every order of the four, and of some of them", async () => {
    const orders: number[][] = [[]];
    for (const order of orders) for (const next of [0, 1, 2, 3]) if (!order.includes(next)) orders.push([...order, next]);
    expect(orders.length).toBe(1 + 4 + 12 + 24 + 24);
    const strengths = { brightness: 1.3, contrast: 0.7, saturation: 1.4, hue: 0.08 };
    const parameters = orders.map((order) => ({ ...nothing, jitter: { order, ...strengths } }));
    expect(await differing(parameters, 40, 33)).toBe(0);
  });

  test("the hue of one colour in eight of all, and of gray, black and white", async () => {
    const [width, height] = [2048, 1024];
    const data = new Uint8Array(3 * width * height);
    for (let i = 0; i < width * height; i++) {
      const colour = i * 8 + ((i >> 5) & 7);
      data.set([colour >> 16, (colour >> 8) & 255, colour & 255], 3 * i);
    }
    for (let gray = 0; gray < 256; gray++) data.fill(gray, 3 * gray, 3 * gray + 3);
    const hues = [-25.5 / 255, 13.5 / 255]; // 25 steps back, 13 on
    const parameters = hues.map((hue) => ({ ...nothing, jitter: { ...neutral, order: [3], hue } }));
    expect(await differing(parameters, height, width, [{ data, width, height }])).toBe(0);
  });
});

describe("all operations together", () => {
  test("400 images with the recipe's parameters: no value differs", async () => {
    expect(await differing(Array.from({ length: 400 }, draw), 61, 80)).toBe(0);
  });

  test("full size", async () => {
    expect(await differing(Array.from({ length: 8 }, draw), 224, 224)).toBe(0);
  });

  test.each([[1, 1], [1, 7], [5, 1], [2, 3], [3, 2], [17, 16]])("images of %i x %i", async (height, width) => {
    expect(await differing(Array.from({ length: 40 }, draw), height, width)).toBe(0);
  });

  test("one image at a time, or few, gives the same as all at once", async () => {
    const parameters = Array.from({ length: 7 }, draw);
    const { crops, expected } = await both(parameters, 20, 30);
    for (const valuesAtOnce of [1, 3 * 3 * 20 * 30, 5 * 3 * 20 * 30 + 1]) {
      using few = new DeviceAugmentation("cpu", { valuesAtOnce });
      using actual = few.apply(crops, parameters);
      expect(torch.scope(() => torch.equal(actual, expected))).toBe(true);
    }
    crops.dispose();
    expected.dispose();
  });
});

test("crops stay as they are, whatever their layout, and no graph is recorded", async () => {
  const parameters = Array.from({ length: 4 }, draw);
  const { crops, expected } = await both(parameters, 24, 24);
  using before = crops.clone();
  using channelsLast = crops.clone({ memoryFormat: "channels_last" });
  for (const each of [crops, channelsLast]) {
    using actual = augmentation.apply(each, parameters);
    expect(torch.equal(actual, expected)).toBe(true);
    expect(actual.requiresGrad).toBe(false);
    expect(actual.isContiguous()).toBe(true);
    expect(torch.equal(each, before)).toBe(true);
  }
  crops.dispose();
  expected.dispose();
});

test("no images give no images", () => {
  using crops = torch.empty([0, 3, 8, 8], { dtype: "uint8" });
  using actual = augmentation.apply(crops, []);
  expect(actual.shape).toEqual([0, 3, 8, 8]);
});

test("another normalisation", () => {
  using own = new DeviceAugmentation("cpu", { normalization: { mean: [0, 0.5, 1], std: [1, 0.5, 0.25] } });
  using crops = torch.full([1, 3, 1, 1], 255, { dtype: "uint8" });
  using actual = own.apply(crops, [nothing]);
  expect([...actual.data()]).toEqual([1, 1, 0]);
});

test("what makes no sense is refused, with its name, value and limit", () => {
  using crops = torch.zeros([1, 3, 4, 4], { dtype: "uint8" });
  const attempt = (change: Partial<PixelParameters>) => () => augmentation.apply(crops, [{ ...nothing, ...change }]);
  const jitter = (change: Partial<JitterParameters>) => attempt({ jitter: { ...neutral, ...change } });
  expect(jitter({ order: [0, 0] })).toThrow(/order of image 0 is \[0,0\]; give each of 0 to 3 at most once/);
  expect(jitter({ order: [4] })).toThrow(DataOptionError);
  expect(jitter({ hue: NaN })).toThrow(/jitter's hue of image 0 is "NaN"/);
  expect(attempt({ blurSigma: -1 })).toThrow(/sigma of image 0 is "-1"; give 0 to 1000 pixels/);
  expect(attempt({ blurSigma: Infinity })).toThrow(DataOptionError);
  expect(attempt({ solarize: 12.5 })).toThrow(/threshold of solarize of image 0 is "12.5"; give a whole number/);
  expect(() => augmentation.apply(crops, [])).toThrow(/0 parameters for 1 crops/);
  using floats = torch.zeros([1, 3, 4, 4]);
  expect(() => augmentation.apply(floats, [nothing])).toThrow(/crops are float32\[1, 3, 4, 4\]; give uint8/);
  using elsewhere = torch.empty([1, 3, 4, 4], { dtype: "uint8", device: "meta" });
  expect(() => augmentation.apply(elsewhere, [nothing])).toThrow(/crops are on meta; move them to cpu/);
  expect(() => new DeviceAugmentation("cpu", { valuesAtOnce: 0 })).toThrow(/valuesAtOnce is 0/);
  expect(() => new DeviceAugmentation(`cuda:${torch.cudaDeviceCount()}`)).toThrow(torch.DeviceUnavailableError);
});
