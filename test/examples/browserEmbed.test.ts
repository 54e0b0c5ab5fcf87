/** The example page in a real browser: its features against those of onnxruntime-node and against evaluation's. */
import { mkdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Browser, Page } from "playwright-core";
import sharp from "sharp";
import { convertCheckpoint, OrderedDict, writeCheckpoint, type OnnxPrecision } from "../../lib/checkpoint/index.js";
import { loadImages, type ImageSource } from "../../lib/data/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { root } from "../docs/docsPage.js";
import { startChromium, testChromium } from "../support/chromium.js";
import { maxRelative } from "../support/digest.js";
import { fixturePath } from "../support/fixtures.js";
import { formulaUnit } from "../support/formula.js";
import { startOnnxRuntime } from "../support/onnxRuntime.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

type Picture = { data: Uint8Array; width: number; height: number };

const folder = temporaryFolder("browser");
expectNoTensorsLeft();
const runOnnx = startOnnxRuntime();

/** A module of the example. */
const part = (name: string): Promise<Record<string, (...args: never[]) => unknown>> =>
  import(pathToFileURL(join(root, "examples", "browser-embed", name)).href) as never;

const photographs = ["china.jpg", "flower.jpg", "progressive_420_odd.jpg"].map((name) => fixturePath(`augment/files/${name}`));
const source: ImageSource = { length: photographs.length, image: (index) => photographs[index]! };
const rendering = { imageSize: 112, resizeShorter: 128 };

/** A small ViT for 112 pixels, with weights that make pictures differ. */
async function writeEncoder(): Promise<Record<OnnxPrecision | "pixels", string>> {
  torch.manualSeed(0);
  const model = new VisionTransformer({ imageSize: 112, embedDim: 192, depth: 4, numHeads: 3, numClasses: 0 });
  torch.scope(() => torch.noGrad(() => {
    for (const [key, parameter] of model.namedParameters()) {
      if (key === "pos_embed") continue;
      const spread = torch.tensor(formulaUnit(key, 5, parameter.numel()), parameter.shape);
      if (parameter.ndim === 1) parameter.copy_(spread.mul(0.2).add(key.endsWith("weight") ? 1 : 0));
      else parameter.add_(spread.mul(0.01));
    }
  }));
  const checkpoint = join(folder, "vit.pth");
  const record = { format: 1, num_heads: 3, image_size: [112, 112], norm_eps: 1e-6 };
  await writeCheckpoint(checkpoint, { arch: "custom", state_dict: new OrderedDict(model.stateDict()), encoder: record });
  model.dispose();
  const convert = async (name: string, onnx: object): Promise<string> => {
    const { path } = await convertCheckpoint(checkpoint, join(folder, `${name}.onnx`), { to: "onnx", onnx });
    return path;
  };
  return {
    float32: await convert("float32", {}), float16: await convert("float16", { precision: "float16" }),
    int8: await convert("int8", { precision: "int8" }), pixels: await convert("pixels", { preprocess: true }),
  };
}

let models: Record<OnnxPrecision | "pixels", string>;
beforeAll(async () => {
  models = await writeEncoder();
});

test("resizes and cuts as evaluation does, to the last bit", async () => {
  const [{ resizeShorter, cropCentre }, { normalise }] = await Promise.all([part("resize.mjs"), part("pictures.mjs")]);
  for (const [i, path] of photographs.entries()) {
    // PNG keeps the pixels of one decoder for both.
    const png = join(folder, `${i}.png`);
    await writeFile(png, await sharp(path).png().toBuffer());
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    expect(info.channels).toBe(3);
    const picture: Picture = { data, width: info.width, height: info.height };
    const small = (resizeShorter as (picture: Picture, shorter: number) => Picture)(picture, 128);
    const crop = (cropCentre as (picture: Picture, width: number, height: number) => Picture)(small, 112, 112);
    const ours = await loadImages({ length: 1, image: () => png }, [0], { ...rendering, normalization: { mean: [0, 0, 0], std: [1, 1, 1] } });
    const expected = torch.scope(() => ours.mul(255).round().permute([0, 2, 3, 1]).contiguous().data() as Float32Array);
    expect(Array.from(crop.data)).toEqual(Array.from(expected));
    ours.dispose();

    const normalised = await loadImages({ length: 1, image: () => png }, [0], rendering);
    const metadata = { mean: "0.485,0.456,0.406", std: "0.229,0.224,0.225" };
    const values = (normalise as (picture: Picture, metadata: object) => Float32Array)(crop, metadata);
    expect(maxRelative(values, normalised.data() as Float32Array)).toBeLessThan(1e-6);
    normalised.dispose();
  }
});

test("reads what the model says about itself", async () => {
  const { readModelMetadata } = await part("modelMetadata.mjs");
  const read = readModelMetadata as (model: Uint8Array) => Record<string, string>;
  const model = await readFile(models.float16);
  expect(read(model)).toMatchObject({ arch: "custom", image_size: "112x112", resize_shorter: "128", feature_dim: "192", precision: "float16" });
  expect(() => read(model.subarray(0, 1000))).toThrow(/cut off/);
  expect(() => read(Buffer.from("<html>not found</html>"))).toThrow(/no ONNX model/);
});

(testChromium === null ? describe.skip : describe)("in Chromium", () => {
  let browser: Browser;
  const opened: { close: () => Promise<void> }[] = [];
  beforeAll(async () => {
    browser = await startChromium();
  });
  afterAll(async () => {
    await browser.close();
    for (const server of opened) await server.close();
  });

  async function open(model: string): Promise<Page> {
    const { startServer } = await part("server.mjs");
    const server = await (startServer as (options: { model: string }) => Promise<{ url: string; close: () => Promise<void> }>)({ model });
    opened.push(server);
    const page = await browser.newPage();
    const strange: string[] = [];
    page.on("request", (request) => {
      if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(server.url)) strange.push(request.url());
    });
    page.on("pageerror", (error) => strange.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") strange.push(message.text());
    });
    await page.goto(server.url);
    await page.getByText("Ready: choose two or more pictures.").waitFor({ timeout: 60_000 });
    expect(strange).toEqual([]);
    return page;
  }

  const featuresIn = (page: Page): Promise<number[][]> =>
    page.evaluate(`[...document.querySelectorAll("figure")].map(({ features }) => [...features])`);

  /** The features that onnxruntime-node gives for pictures rendered as in evaluation. */
  async function expectedFeatures(model: string): Promise<number[][]> {
    const batch = await loadImages(source, [0, 1, 2], rendering);
    const { features } = await runOnnx({ path: model, name: "images", type: "float32", data: batch.data() as Float32Array, dims: batch.shape });
    batch.dispose();
    return [0, 1, 2].map((row) => Array.from(features!.data.slice(192 * row, 192 * (row + 1))));
  }

  test.each<[OnnxPrecision, number]>([["float32", 1e-4], ["float16", 1e-2], ["int8", 2e-2]])("%s: runs as in Node.js", async (precision, limit) => {
    const page = await open(models[precision]);
    const data = formulaUnit("images", 1, 2 * 3 * 112 * 112, 2);
    const found = await page.evaluate(async (values) => {
      // These addresses are the page's.
      const [{ Encoder }, ort] = await Promise.all(["/encoder.mjs", "/onnxruntime/ort.wasm.min.mjs"].map((path) => import(path)));
      const encoder = await Encoder.load("/encoder.onnx");
      return Array.from((await encoder.run(new ort.Tensor("float32", Float32Array.from(values), [2, 3, 112, 112]))) as Float32Array);
    }, Array.from(data));
    const { features } = await runOnnx({ path: models[precision], name: "images", type: "float32", data, dims: [2, 3, 112, 112] });
    expect(maxRelative(found, features!.data)).toBeLessThan(limit);
    await page.close();
  }, 120_000);

  test.each(["float32", "pixels"] as const)("%s: the pictures that a user gives have evaluation's features", async (name) => {
    const page = await open(models[name]);
    await page.locator("#files").setInputFiles(photographs);
    await page.getByText("3 pictures embedded.").waitFor({ timeout: 60_000 });
    const [found, expected] = [await featuresIn(page), await expectedFeatures(models.float32)];
    // The resizing is the same to the last bit, and so is Chromium's JPEG decoder today: 1e-6 is measured. Other decoders may round otherwise.
    found.forEach((features, i) => expect(maxRelative(features, expected[i]!)).toBeLessThan(1e-3));

    // What is shown is what was computed.
    const shown = await page.locator("tbody td").allTextContents();
    const norm = (a: number[]): number => Math.hypot(...a);
    const cosine = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0) / (norm(a) * norm(b));
    expect(shown).toEqual(found.flatMap((a) => found.map((b) => cosine(a, b).toFixed(3))));
    await page.close();
  }, 120_000);

  test("a file that is no picture, the keyboard, and removing", async () => {
    const page = await open(models.float32);
    const bad = join(folder, "notes.png");
    await writeFile(bad, "no picture");
    await page.locator("#files").setInputFiles([bad, photographs[0]!]);
    await page.getByText("1 picture embedded.").waitFor();
    await page.locator("#files").setInputFiles([bad]);
    await page.getByText("notes.png: it is no picture that this browser can read").waitFor();
    expect(await page.locator("figure").count()).toBe(1);
    expect(await page.locator("#similarities").isVisible()).toBe(false);
    // From the choice of files by the tabulator to the first picture's button.
    const focused = (): Promise<string> => page.evaluate("document.activeElement.id || document.activeElement.title");
    await page.locator("#files").focus();
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Remove china.jpg");
    await page.keyboard.press("Enter");
    expect(await page.locator("figure").count()).toBe(0);
    expect(await focused()).toBe("files");
    await page.close();
  }, 120_000);

  test("fits a phone, in light and in dark", async () => {
    const page = await open(models.float32);
    await page.setViewportSize({ width: 360, height: 740 });
    await page.locator("#files").setInputFiles(photographs);
    await page.getByText("3 pictures embedded.").waitFor({ timeout: 60_000 });
    const overflow = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth");
    expect(overflow).toBeLessThanOrEqual(0);
    const widths = await page.evaluate<number[]>(`[...document.querySelectorAll("figure")].map((each) => Math.round(each.clientWidth))`);
    expect(new Set(widths).size).toBe(1);
    const colours: string[] = [];
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      colours.push(await page.evaluate<string>("getComputedStyle(document.body).backgroundColor"));
      const shots = process.env.MOCO_TEST_SCREENSHOTS;
      if (!shots) continue;
      mkdirSync(shots, { recursive: true });
      for (const width of [360, 1100]) {
        await page.setViewportSize({ width, height: 740 });
        await page.waitForTimeout(300);
        await page.screenshot({ path: join(shots, `${colorScheme}-${width}.png`), fullPage: true });
      }
    }
    expect(new Set(colours).size).toBe(2);
    await page.close();
  }, 120_000);

  test("only what is named is served", async () => {
    const page = await open(models.float32);
    for (const path of ["server.mjs", "../../package.json", "onnxruntime/../../package.json", "onnxruntime/ort.all.js", "%2e%2e/README.md"]) {
      const response = await page.request.get(new URL(path, page.url()).href);
      expect([path, response.status()]).toEqual([path, 404]);
    }
    await page.close();
  }, 60_000);
});
