/** The figures of a network: which there are, that they hold together, and what happens where something is missing. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import sharp from "sharp";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { RandomStream } from "../../lib/data/index.js";
import { ResNet, VisionTransformer, type Encoder } from "../../lib/models/index.js";
import type { Figure } from "../../lib/report/figure.js";
import { figurePage } from "../../lib/report/pictures/figurePage.js";
import * as torch from "../../lib/torch/index.js";
import { spread, spreadIndices } from "../../lib/train/pictures/imageSample.js";
import { pretrain } from "../../lib/train/pretrain.js";
import { runPictures, type PicturedRun } from "../../lib/train/runPictures.js";
import { startChromium, testChromium } from "../support/chromium.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { tinyOptions } from "./tinyRun.js";

expectNoTensorsLeft();
const folder = temporaryFolder("run-pictures");
const images = join(folder, "images");
const run = join(folder, "run");

/** Noise in one of two colours. */
async function writeImage(path: string, kind: number, seed: number): Promise<void> {
  const random = new RandomStream({ seed, epoch: 0, index: 0, stream: 9 });
  const data = Uint8Array.from({ length: 20 * 26 * 3 }, (_, i) => (i % 3 === 2 * kind ? 150 : 20) + random.integer(100));
  await sharp(data, { raw: { width: 26, height: 20, channels: 3 } }).png().toFile(path);
}

async function save(name: string, encoder: Encoder, more: Record<string, unknown> = {}): Promise<string> {
  const path = join(folder, name);
  await writeCheckpoint(path, { state_dict: encoder.stateDict(), ...more });
  encoder.dispose();
  return path;
}

async function pictures(options: Partial<PicturedRun>): Promise<{ figures: Figure[]; warnings: string[] }> {
  const figures: Figure[] = [];
  const warnings: string[] = [];
  for await (const figure of runPictures({ folder, images: 12, device: "cpu", ...options }, (message) => warnings.push(message))) figures.push(figure);
  return { figures, warnings };
}

beforeAll(async () => {
  for (const [kind, name] of ["red", "blue"].entries()) {
    mkdirSync(join(images, name), { recursive: true });
    for (let i = 0; i < 8; i++) await writeImage(join(images, name, `${i} <b>.png`), kind, 8 * kind + i);
  }
  const { moco } = await pretrain({ ...tinyOptions, data: images, epochs: 1, stopGradConv1: true, out: run });
  moco.dispose();
});

const all = ["views", "position-embedding", "position-similarity", "filters", "attention", "patch-colours", "map", "neighbours"];

test("a run's pictures: all of them, self-contained, the same each time, without changing the process's random numbers", async () => {
  torch.manualSeed(11);
  const expected = torch.scope(() => torch.rand([3]).toArray());
  torch.manualSeed(11);
  const { figures, warnings } = await pictures({ folder: run }); // its log tells where the images are
  expect(torch.scope(() => torch.rand([3]).toArray())).toEqual(expected);
  expect(warnings).toEqual([]);
  expect(figures.map(({ id }) => id)).toEqual(all);
  for (const { title, caption, body } of figures) {
    expect(title.length > 3 && caption.length > 40).toBe(true);
    expect(body).not.toMatch(/NaN|undefined|Infinity|<script|https?:|<b>/);
    expect(body.match(/(?:src|href)="(?!data:image\/(?:png|webp);base64,|#)/g)).toBeNull();
  }
  expect(Object.fromEntries(figures.map(({ id, caption }) => [id, caption]))).toMatchObject({
    filters: expect.stringContaining("frozen at its random start"),
    neighbours: expect.stringMatching(/of 12 images.*Framed are images of the same class: [\d.]+ % of the 5 nearest with random weights, [\d.]+ % with trained/),
    attention: expect.stringMatching(/last of 2 blocks.*evenly spread it would be 20\s%/),
  });
  const again = await pictures({ folder: run, data: images });
  expect(again.figures).toEqual(figures);
  const other = await pictures({ folder: run, data: images, seed: 5 });
  expect(other.figures.find(({ id }) => id === "map")).not.toEqual(figures.find(({ id }) => id === "map"));
});

test("networks of other shapes: what they do not have is left out and said", async () => {
  torch.manualSeed(0);
  const oblong = await save("oblong.pth", new VisionTransformer({ imageSize: [16, 32], patchSize: 8, embedDim: 12, depth: 1, numHeads: 1, numClasses: 0 }), {
    moco_v3_run: { num_heads: 1, image_size: [16, 32] },
  });
  const conv = await save("conv.pth", new VisionTransformer({ imageSize: 32, embedDim: 16, depth: 1, numHeads: 2, stem: "conv", numClasses: 0 }), { moco_v3_run: { num_heads: 2 } });
  const resnet = await save("resnet.pth", new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 0 }), {});
  const noLog = /^two views: left out, the folder has no log of a pre-training/;
  const wide = await pictures({ checkpoint: oblong, data: images });
  expect(wide.figures.map(({ id }) => id)).toEqual(all.slice(1));
  expect(wide.figures[0]!.caption).toMatch(/only on square grids/);
  expect(wide.warnings[0]).toMatch(noLog);
  const stem = await pictures({ checkpoint: conv, data: images });
  expect(stem.figures.map(({ id }) => id)).toEqual(all.slice(1));
  expect(stem.figures.find(({ id }) => id === "filters")!.title).toBe("Filters of the first convolution");
  expect(stem.warnings).toContainEqual(expect.stringMatching(/^patch-embedding filters: left out, a convolutional stem has none/));
  const residual = await pictures({ checkpoint: resnet, data: images, images: 6 });
  expect(residual.figures.map(({ id }) => id)).toEqual(["filters", "map", "neighbours"]);
  expect(residual.warnings).toContainEqual("position embedding, attention and patch features: left out, a ResNet has no tokens");
});

test("a checkpoint as upstream writes it", async () => {
  using vit = new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 24, depth: 1, numHeads: 12, numClasses: 0 });
  const state = new Map([...vit.stateDict()].map(([key, value]) => [`module.base_encoder.${key}`, value]));
  await writeCheckpoint(join(folder, "upstream.pth.tar"), { epoch: 3, arch: "vit_small", state_dict: state });
  const { figures, warnings } = await pictures({ checkpoint: join(folder, "upstream.pth.tar"), data: images, images: 5 });
  expect(figures.map(({ id }) => id)).toEqual(all.slice(1));
  expect(warnings.join("\n")).toMatch(/12 attention heads assumed/);
});

test("one image, unreadable images, no images, images that are gone, no checkpoint yet", async () => {
  const place = (name: string): string => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const one = place("one");
  await writeImage(join(one, "a.png"), 0, 1);
  const single = await pictures({ folder: run, data: one });
  expect(single.figures.map(({ id }) => id)).toEqual(all.slice(0, -1));
  expect(single.warnings).toEqual(["nearest neighbours: left out, there is one image only, which has no neighbours"]);

  const broken = place("broken");
  writeFileSync(join(broken, "a.png"), "no picture");
  const unreadable = await pictures({ folder: run, data: broken });
  expect(unreadable.figures.map(({ id }) => id)).toEqual(["position-embedding", "position-similarity", "filters"]);
  expect(unreadable.warnings.join("\n")).toMatch(/two views: left out.*\n1 of 1 images cannot be read \(a\.png: .*\n.*no image can be read/);

  await writeImage(join(broken, "b.png"), 1, 2);
  await writeImage(join(broken, "c.png"), 1, 3);
  const some = await pictures({ folder: run, data: broken });
  expect(some.figures.map(({ id }) => id)).toEqual(all);
  expect(some.warnings).toEqual([expect.stringMatching(/^1 of 3 images cannot be read/)]);

  for (const data of [place("empty"), join(folder, "gone")]) {
    const none = await pictures({ folder: run, data });
    expect(none.figures.map(({ id }) => id)).toEqual(["position-embedding", "position-similarity", "filters"]);
    expect(none.warnings).toEqual([expect.stringMatching(/^pictures of images: left out, /)]);
  }
  const young = await pictures({ folder: place("young"), data: images });
  expect(young.figures).toEqual([]);
  expect(young.warnings[1]).toMatch(/^pictures of the network: left out, the folder .* has no checkpoint/);
});

test("a command in a log is not run", async () => {
  const other = join(folder, "other");
  mkdirSync(other);
  const [entry] = readFileSync(join(run, "log.jsonl"), "utf8").split("\n") as [string];
  const { options, ...rest } = JSON.parse(entry) as { options: object };
  writeFileSync(join(other, "log.jsonl"), `${JSON.stringify({ ...rest, options: { ...options, data: `pipe:touch ${join(other, "ran")}` } })}\n`);
  const { warnings } = await pictures({ folder: other, checkpoint: run });
  expect(warnings).toEqual([expect.stringMatching(/^pictures of images: left out, they came through the command pipe:touch/)]);
  expect(existsSync(join(other, "ran"))).toBe(false);
});

test("a network that has diverged shows its weights and says why there is no more", async () => {
  const vit = new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 12, depth: 1, numHeads: 1, numClasses: 0 });
  torch.noGrad(() => void vit.norm.weight!.fill_(NaN));
  const { figures, warnings } = await pictures({ checkpoint: await save("nan.pth", vit, { moco_v3_run: { num_heads: 1 } }), data: images });
  expect(figures.map(({ id }) => id)).toEqual(["position-embedding", "position-similarity", "filters"]);
  expect(warnings.at(-1)).toMatch(/not finite numbers: the training has diverged/);
});

test("options that mean nothing are refused; choices are even", async () => {
  await expect(pictures({ images: 0 })).rejects.toThrow(/images/);
  await expect(pictures({ device: "tpu" })).rejects.toThrow(/device/);
  const chosen = spreadIndices(1_000_000_000, 400, 3);
  expect(chosen.every((each, i) => Math.floor(each / 2_500_000) === i)).toBe(true);
  expect(spreadIndices(5, 5, 0)).toEqual([0, 1, 2, 3, 4]);
  expect(spread([1, 2, 3, 4, 5, 6], 3)).toEqual([1, 3, 5]);
  expect(spread([1], 8)).toEqual([1]);
});

(testChromium === null ? test.skip : test)("in a browser nothing is wider than a phone, and thumbnails grow by keyboard", async () => {
  const { figures } = await pictures({ folder: run, data: images });
  const browser = await startChromium();
  try {
    const page = await browser.newPage({ viewport: { width: 390, height: 844 } });
    const complaints: string[] = [];
    page.on("console", (message) => complaints.push(message.text()));
    await page.setContent(figurePage({ title: "Pictures", lead: "of a test", figures }));
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(390);
    expect(await page.evaluate("[...document.images].every((each) => each.complete && each.naturalWidth > 0)")).toBe(true);
    const width = (): Promise<number> => page.evaluate("document.querySelector('.map-picture').getBoundingClientRect().width");
    const before = await width();
    await page.locator(".map-picture").first().focus();
    await page.waitForTimeout(300);
    expect(await width()).toBeCloseTo(3 * before, 0);
    // Ticks lie beside the picture, whatever its height.
    const [picture, lastTick] = await page.evaluate<[number, number]>(`(() => {
      const [section] = document.querySelectorAll("#position-embedding");
      const image = section.querySelector("img").getBoundingClientRect();
      const ticks = [...section.querySelectorAll("span")].filter((each) => /^\\d+$/.test(each.textContent) && each.getBoundingClientRect().right < image.left);
      return [image.bottom, Math.max(...ticks.map((each) => each.getBoundingClientRect().bottom))];
    })()`);
    expect(lastTick).toBeLessThan(picture + 8);
    expect(complaints).toEqual([]);
  } finally {
    await browser.close();
  }
});
