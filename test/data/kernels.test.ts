import { readFileSync } from "node:fs";
import { afterAll, afterEach, describe, expect, test } from "@jest/globals";
import { ImagePool, decodeImage, type Box, type DecodedImage, type Rendering, type Resizing } from "../../lib/data/index.js";
import { RandomStream } from "../../lib/data/random.js";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath, readJson, readNpy } from "../support/fixtures.js";
import { neutral } from "../support/pixelParameters.js";
import { difference, golden, goldenImage, interleaved, same } from "./pixels.js";

interface Manifest {
  resized_crops: { file: string; source: string; box_ijhw: number[]; size: number; pillow13_file?: string }[];
  pipelines: {
    index: number; source: string; box: number[]; size: number; order: number[] | null; factors: number[] | null;
    gray: boolean; blur: number | null; solarize: boolean; flip: boolean;
  }[];
  files: Record<string, { factors?: number[]; radii?: number[]; orders?: number[][] }>;
}

const manifest = readJson<Manifest>("augment/manifest.json");
const pool = new ImagePool(2);
const tensorsBefore = torch.memory().tensors;
afterAll(() => {
  pool.close();
  expect(torch.memory().tensors).toBe(tensorsBefore);
});

type Look = Partial<Omit<Rendering, "output" | "row" | "crop" | "resizing">> & { crop?: Box; resizing?: Resizing; size?: number };

function rendering(image: DecodedImage, look: Look): Rendering & { resizing: Resizing } {
  const { size, ...rest } = look;
  const crop = look.crop ?? { top: 0, left: 0, height: image.height, width: image.width };
  return { output: 0, row: 0, crop, resizing: { height: size ?? crop.height, width: size ?? crop.width, top: 0, left: 0 }, ...rest };
}

async function render(image: DecodedImage, look: Look): Promise<Uint8Array> {
  const what = rendering(image, look);
  const { height, width } = what.resizing;
  const out = torch.empty([1, 3, height, width], { dtype: "uint8" });
  await pool.render([{ image, renderings: [what] }], [out]);
  const pixels = interleaved(out.data() as Uint8Array, height * width);
  out.dispose();
  return pixels;
}

async function renderFloat(image: DecodedImage, look: Look): Promise<Float32Array> {
  const what = rendering(image, look);
  const out = torch.empty([1, 3, what.resizing.height, what.resizing.width], { dtype: "float32" });
  await pool.render([{ image, renderings: [what] }], [out]);
  const values = out.data() as Float32Array;
  out.dispose();
  return values;
}

/** flower.jpg's golden pixels are a part of it; that part begins here. */
const partOrigin: Record<string, [number, number]> = { "china.jpg": [0, 0], "flower.jpg": [100, 200] };

function boxOf(source: string, [top, left, height, width]: number[]): { top: number; left: number; height: number; width: number } {
  const [y, x] = partOrigin[source]!;
  return { top: top! - y, left: left! - x, height: height!, width: width! };
}

function fits(image: DecodedImage, box: { top: number; left: number; height: number; width: number }): boolean {
  return box.top >= 0 && box.left >= 0 && box.top + box.height <= image.height && box.left + box.width <= image.width;
}

const files = async (name: string): Promise<DecodedImage> => decodeImage(readFileSync(fixturePath(`augment/files/${name}`)));

/** Golden pixels where they cover the box, else those that our own decoder makes. */
async function photograph(source: string, box: number[]): Promise<{ image: DecodedImage; crop: ReturnType<typeof boxOf> }> {
  const image = goldenImage(`decoded/${source}.npz`);
  const crop = boxOf(source, box);
  if (fits(image, crop)) return { image, crop };
  const [top, left, height, width] = box as [number, number, number, number];
  return { image: await files(source), crop: { top, left, height, width } };
}

describe("random resized crop is PIL's, bit for bit", () => {
  test.each(manifest.resized_crops)("$file", async ({ file, source, box_ijhw, size }) => {
    const { image, crop } = await photograph(source, box_ijhw);
    expect(difference(await render(image, { crop, size }), golden(file).data)).toEqual(same);
  });
});


describe.each(["china.jpg", "flower.jpg"])("colour operations on %s are PIL's, bit for bit", (name) => {
  const tile = goldenImage(`colour/${name}.tile.npz`);
  const bytes = tile.data.length;

  test.each(["brightness", "contrast", "saturation", "hue"] as const)("%s", async (operation) => {
    const file = `colour/${name}.${operation}.npz`;
    const expected = golden(file).data;
    const order = [["brightness", "contrast", "saturation", "hue"].indexOf(operation)];
    for (const [i, factor] of manifest.files[file]!.factors!.entries()) {
      const actual = await render(tile, { jitter: { ...neutral, order, [operation]: factor } });
      expect({ factor, ...difference(actual, expected.subarray(i * bytes, (i + 1) * bytes)) }).toEqual({ factor, ...same });
    }
  });

  test("jitter in every order", async () => {
    const file = `colour/${name}.${name === "china.jpg" ? "jitter2" : "jitter24"}.npz`;
    const expected = golden(file).data;
    const { factors, orders } = manifest.files[file]!;
    const [brightness, contrast, saturation, hue] = factors as [number, number, number, number];
    for (const [i, order] of orders!.entries()) {
      const actual = await render(tile, { jitter: { order, brightness, contrast, saturation, hue } });
      expect({ order, ...difference(actual, expected.subarray(i * bytes, (i + 1) * bytes)) }).toEqual({ order, ...same });
    }
  });

  test("blur", async () => {
    const file = `colour/${name}.blur.npz`;
    const expected = golden(file).data;
    for (const [i, blurSigma] of manifest.files[file]!.radii!.entries()) {
      const actual = await render(tile, { blurSigma });
      expect({ blurSigma, ...difference(actual, expected.subarray(i * bytes, (i + 1) * bytes)) }).toEqual({ blurSigma, ...same });
    }
  });

  test("grayscale, solarize, flip", async () => {
    expect(difference(await render(tile, { grayscale: true }), golden(`colour/${name}.gray3.npz`).data)).toEqual(same);
    expect(difference(await render(tile, { solarize: 128 }), golden(`colour/${name}.solarize.npz`).data)).toEqual(same);
    expect(difference(await render(tile, { flip: true }), golden(`colour/${name}.hflip.npz`).data)).toEqual(same);
  });

  test("normalisation is exact", async () => {
    const expected = readNpy<Float32Array>(`augment/colour/${name}.normalized.npy`).data;
    expect(Buffer.compare(Buffer.from((await renderFloat(tile, {})).buffer), Buffer.from(expected.buffer))).toBe(0);
  });
});

test("a large tile is blurred exactly", async () => {
  const image = goldenImage("decoded/china.jpg.npz");
  const look = { crop: { top: 37, left: 101, height: 200, width: 260 }, size: 160, blurSigma: 2 };
  expect(difference(await render(image, look), golden("colour/china.jpg.blur_big.npz").data)).toEqual(same);
});

describe("whole pipelines", () => {
  test.each(manifest.pipelines)("$index", async ({ index, source, box, size, order, factors, gray, blur, solarize, flip }) => {
    const { image, crop } = await photograph(source, box);
    const [brightness, contrast, saturation, hue] = (factors ?? [1, 1, 1, 0]) as [number, number, number, number];
    const look: Look = {
      crop, size, flip, grayscale: gray, blurSigma: blur, solarize: solarize ? 128 : null,
      jitter: order && { order, brightness, contrast, saturation, hue },
    };
    expect(difference(await render(image, look), golden(`pipeline/${index}.u8.npz`).data)).toEqual(same);
    const expected = readNpy<Float32Array>(`augment/pipeline/${index}.f32.npy`).data;
    expect(Buffer.compare(Buffer.from((await renderFloat(image, look)).buffer), Buffer.from(expected.buffer))).toBe(0);
  });
});

describe("odd sizes", () => {
  /** The same blur, written for reading instead of speed. */
  function slowBlur(plane: Uint8Array, width: number, height: number, sigma: number): Uint8Array {
    const f = Math.fround;
    const variance = f(f(f(sigma) * f(sigma)) / 3);
    const length = f(Math.sqrt(12 * variance + 1));
    const whole = Math.floor((length - 1) / 2);
    let part = f(f(2 * whole + 1) * f(f(whole * (whole + 1)) - f(3 * variance)));
    part = f(part / f(6 * f(variance - f((whole + 1) * (whole + 1)))));
    const radius = f(whole + part);
    const r = Math.floor(radius);
    const inner = Math.floor(f(2 ** 24 / f(f(radius * 2) + 1)));
    const edge = Math.floor((2 ** 24 - (2 * r + 1) * inner) / 2);
    let from = plane;
    for (let pass = 0; pass < 6; pass++) {
      const to = new Uint8Array(from.length);
      const at = (x: number, y: number): number =>
        from[Math.min(Math.max(y, 0), height - 1) * width + Math.min(Math.max(x, 0), width - 1)]!;
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const along = (k: number): number => (pass < 3 ? at(x + k, y) : at(x, y + k));
          let sum = 0;
          for (let k = -r; k <= r; k++) sum += along(k);
          to[y * width + x] = Math.floor((sum * inner + (along(-r - 1) + along(r + 1)) * edge + 2 ** 23) / 2 ** 24);
        }
      }
      from = to;
    }
    return from;
  }

  test.each([
    [1, 1, 0.7], [2, 1, 1.9], [1, 5, 1.5], [3, 2, 2], [17, 3, 1.6], [33, 40, 4], [16, 16, 9.5], [47, 31, 0.2], [3, 2, 1000], [5, 1, 120],
  ])("blur of %i x %i at sigma %f", async (width, height, sigma) => {
    const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 73 + ((i * i) >> 2)) & 255);
    const blurred = await render({ data, width, height }, { blurSigma: sigma });
    for (let channel = 0; channel < 3; channel++) {
      const plane = data.filter((_, i) => i % 3 === channel);
      const expected = slowBlur(plane, width, height, sigma);
      expect(difference(blurred.filter((_, i) => i % 3 === channel), expected)).toEqual(same);
    }
  });

  /** The same resize, written for reading: one row of weights per output pixel. */
  function slowResize(image: DecodedImage, height: number, width: number): Uint8Array {
    const weights = (inSize: number, outSize: number): [number, number[]][] =>
      Array.from({ length: outSize }, (_, o) => {
        const scale = inSize / outSize;
        const support = Math.max(scale, 1);
        const center = (o + 0.5) * scale;
        const begin = Math.max(Math.trunc(center - support + 0.5), 0);
        const end = Math.min(Math.trunc(center + support + 0.5), inSize);
        const raw = Array.from({ length: end - begin }, (_, i) => Math.max(0, 1 - Math.abs((begin + i - center + 0.5) * (1 / support))));
        const total = raw.reduce((a, b) => a + b, 0);
        return [begin, raw.map((w) => Math.trunc(0.5 + (w / total) * 2 ** 22))];
      });
    const across = weights(image.width, width);
    const down = weights(image.height, height);
    const round = (sum: number): number => Math.min(255, Math.floor((sum + 2 ** 21) / 2 ** 22));
    const rows = new Uint8Array(3 * width * image.height);
    const out = new Uint8Array(3 * width * height);
    for (let y = 0; y < image.height; y++) {
      across.forEach(([begin, ws], x) => {
        for (let c = 0; c < 3; c++) {
          const sum = ws.reduce((total, w, i) => total + w * image.data[3 * (y * image.width + begin + i) + c]!, 0);
          rows[3 * (y * width + x) + c] = round(sum);
        }
      });
    }
    down.forEach(([begin, ws], y) => {
      for (let x = 0; x < 3 * width; x++) {
        out[3 * y * width + x] = round(ws.reduce((total, w, i) => total + w * rows[3 * (begin + i) * width + x]!, 0));
      }
    });
    return out;
  }

  test.each([
    [1, 1, 5, 7], [3, 2, 1, 1], [17, 19, 16, 16], [100, 3, 7, 33], [2, 90, 64, 3], [50, 50, 50, 50], [31, 33, 65, 31], [257, 129, 8, 8], [5, 1, 40, 1], [6, 2, 1, 40], [700, 40, 3, 33], [40, 900, 16, 9], [32, 32, 200, 17],
  ])("resize of %i x %i to %i x %i", async (w, h, height, width) => {
    const image = { data: Uint8Array.from({ length: 3 * w * h }, (_, i) => (i * 89 + ((i * i) >> 3)) & 255), width: w, height: h };
    const actual = await render(image, { resizing: { height, width, top: 0, left: 0 } });
    expect(difference(actual, slowResize(image, height, width))).toEqual(same);
  });
});

describe("both bodies of the kernels", () => {
  afterEach(() => native.usePlainKernels(false));

  const random = new RandomStream({ seed: 1, epoch: 0, index: 0, stream: 0 });
  const within = (low: number, high: number): number => low + random.integer(high - low + 1);
  const pixels = (width: number, height: number): DecodedImage => {
    let state = random.uint32();
    const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
    return { data: Uint8Array.from({ length: 3 * width * height }, next), width, height };
  };

  /** Every parameter at random, sizes around the width of a vector included. */
  function look(): [DecodedImage, Look] {
    const image = pixels(within(1, 120), within(1, 90));
    const crop = { top: random.integer(image.height), left: random.integer(image.width), height: 0, width: 0 };
    crop.height = within(1, image.height - crop.top);
    crop.width = within(1, image.width - crop.left);
    const resizing = { height: within(1, 70), width: within(1, 70), top: 0, left: 0 };
    const factor = (): number => random.uniform(0, random.integer(4) === 0 ? 300 : 2);
    return [image, {
      crop, resizing,
      jitter: { order: [...random.permutation(4)], brightness: factor(), contrast: factor(), saturation: factor(), hue: random.uniform(-0.5, 0.5) },
      grayscale: random.integer(5) === 0,
      blurSigma: random.integer(3) === 0 ? null : random.uniform(0.05, random.integer(4) === 0 ? 40 : 2.4),
      solarize: random.integer(3) === 0 ? random.integer(257) : null,
      flip: random.integer(2) === 0,
    }];
  }

  test("give the same pixels, bytes and floats", async () => {
    for (let i = 0; i < 250; i++) {
      const [image, parameters] = look();
      const results: Uint8Array[] = [];
      for (const plain of [false, true]) {
        native.usePlainKernels(plain);
        results.push(await render(image, parameters), new Uint8Array((await renderFloat(image, parameters)).buffer));
      }
      expect({ i, ...difference(results[0]!, results[2]!) }).toEqual({ i, ...same });
      expect({ i, ...difference(results[1]!, results[3]!) }).toEqual({ i, ...same });
    }
  });

  test("turn every colour by the same hue", async () => {
    const side = 4096;
    const image = { data: new Uint8Array(3 * side * side), width: side, height: side };
    for (let colour = 0; colour < side * side; colour++) {
      image.data[3 * colour] = colour >> 16;
      image.data[3 * colour + 1] = (colour >> 8) & 255;
      image.data[3 * colour + 2] = colour & 255;
    }
    const turned: Buffer[] = [];
    for (const plain of [false, true]) {
      native.usePlainKernels(plain);
      const out = torch.empty([1, 3, side, side], { dtype: "uint8" });
      await pool.render([{ image, renderings: [rendering(image, { jitter: { ...neutral, order: [3], hue: 0.1 } })] }], [out]);
      turned.push(Buffer.from(out.data() as Uint8Array));
      out.dispose();
    }
    expect(Buffer.compare(turned[0]!, turned[1]!)).toBe(0);
  });
});

describe("normalisation", () => {
  test.each([[[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], [[0, -1.7, 3e-3], [1, 1e-4, 255]]] as const)(
    "of every byte rounds after each of the three steps, means %j, deviations %j", async (mean, std) => {
      const image = { data: Uint8Array.from({ length: 3 * 256 }, (_, i) => Math.floor(i / 3)), width: 256, height: 1 };
      for (const flip of [false, true]) {
        const out = torch.empty([1, 3, 1, 256], { dtype: "float32" });
        await pool.render([{ image, renderings: [rendering(image, { flip })] }], [out], { normalization: { mean, std } });
        const f = Math.fround;
        const expected = Float32Array.from({ length: 3 * 256 }, (_, i) => {
          const value = flip ? 255 - (i % 256) : i % 256;
          const channel = Math.floor(i / 256);
          return f(f(f(value / 255) - f(mean[channel]!)) / f(std[channel]!));
        });
        expect(out.data()).toEqual(expected);
        out.dispose();
      }
    });
});

describe("the pool", () => {
  const image: DecodedImage = { data: new Uint8Array(3 * 8 * 8).fill(200), width: 8, height: 8 };
  const whole = { top: 0, left: 0, height: 8, width: 8 };
  const resizing = { height: 4, width: 4, top: 0, left: 0 };

  test("refuses what does not fit, and says why", async () => {
    const out = torch.empty([1, 3, 4, 4], { dtype: "float32" });
    const attempt = (change: Partial<Rendering>): Promise<unknown> =>
      pool.render([{ image, renderings: [{ output: 0, row: 0, crop: whole, resizing, ...change }] }], [out]);
    await expect(attempt({ row: 1 })).rejects.toThrow(/row is 1/);
    await expect(attempt({ output: 1 })).rejects.toThrow(/output 1 of 1/);
    await expect(attempt({ crop: { ...whole, width: 9 } })).rejects.toThrow(/crop width is 9/);
    await expect(attempt({ crop: { ...whole, top: -1 } })).rejects.toThrow(/crop top/);
    await expect(attempt({ resizing: { ...resizing, top: 1 } })).rejects.toThrow(/window top/);
    await expect(attempt({ blurSigma: NaN })).rejects.toThrow(/not finite/);
    await expect(attempt({ blurSigma: -1 })).rejects.toThrow(/blur/);
    const short = { ...image, data: image.data.subarray(1) };
    await expect(pool.render([{ image: short, renderings: [] }], [out])).rejects.toThrow(/191 bytes/);
    const wrong = torch.empty([1, 3, 4, 4], { dtype: "float64" });
    await expect(pool.render([], [wrong])).rejects.toThrow(/float32 or uint8/);
    out.dispose();
    wrong.dispose();
  });

  test("an output may be disposed of while it is written", async () => {
    const out = torch.empty([64, 3, 4, 4], { dtype: "float32" });
    const renderings = Array.from({ length: 64 }, (_, row) => ({ output: 0, row, crop: whole, resizing, blurSigma: 2 }));
    const done = pool.render([{ image, renderings }], [out]);
    out.dispose();
    await done;
  });

  test("no work is done at once, a closed pool does none", async () => {
    const own = new ImagePool(3);
    await own.render([], []);
    const out = torch.empty([512, 3, 256, 256], { dtype: "uint8" });
    const large = { height: 256, width: 256, top: 0, left: 0 };
    const renderings = Array.from({ length: 512 }, (_, row) => ({ output: 0, row, crop: whole, resizing: large, blurSigma: 1 }));
    const requests = renderings.map((rendering) => ({ image, renderings: [rendering] }));
    const cut = own.render(requests, [out]);
    own.cancel();
    await expect(cut).rejects.toThrow(/taken back/);
    await own.render(requests.slice(0, 3), [out]);
    const left = own.render(requests, [out]);
    own.close();
    await expect(left).rejects.toThrow(/taken back/);
    await expect(own.render([], [])).rejects.toThrow(/closed/);
    own.close();
    out.dispose();
    expect(() => new ImagePool(0)).toThrow(/threads/);
  });
});
