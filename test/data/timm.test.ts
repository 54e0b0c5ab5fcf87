/** What supervised training does to images, against PIL itself; needs MOCO_TEST_PYTHON. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, expect, test } from "@jest/globals";
import {
  ImagePool, decodeImage, drawView, supervisedRecipe, type DecodedImage, type ImageOperation, type OperationName, type Rendering,
} from "../../lib/data/index.js";
import { RandomStream } from "../../lib/data/random.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { runPython, testPython } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { interleaved } from "./pixels.js";

const folder = temporaryFolder("timm");
expectNoTensorsLeft();
const pool = new ImagePool(2);
afterAll(() => pool.close());

/** Makes of each case's pixels what PIL makes of them; prints how many bytes differ, and by how much at most. */
const COMPARE = `
import json, sys
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
names = {"color": "Color", "contrast": "Contrast", "brightness": "Brightness", "sharpness": "Sharpness"}
modes = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
def apply(image, step):
    name, value = step["name"], step["argument"]
    if name == "autoContrast": return ImageOps.autocontrast(image)
    if name == "equalize": return ImageOps.equalize(image)
    if name == "invert": return ImageOps.invert(image)
    if name == "posterize": return image.point([i & ~(2 ** (8 - value) - 1) for i in range(256)] * 3) # Pillow 13 has no 0 bits
    if name == "solarize": return ImageOps.solarize(image, value)
    if name == "solarizeAdd": return image.point([min(255, i + value) if i < 128 else i for i in range(256)] * 3)
    if name in names: return getattr(ImageEnhance, names[name])(image).enhance(value)
    how = {"resample": modes[step["interpolation"]], "fillcolor": tuple(step["fill"])}
    if name == "rotate": return image.rotate(value, **how)
    matrix = {"shearX": (1, value, 0, 0, 1, 0), "shearY": (1, 0, 0, value, 1, 0),
        "translateX": (1, 0, value * image.width, 0, 1, 0), "translateY": (1, 0, 0, 0, 1, value * image.height)}[name]
    return image.transform(image.size, Image.AFFINE, matrix, **how)
def crop(image, case):
    box, mode = case["crop"], modes[case["interpolation"]]
    image = image.crop((box["left"], box["top"], box["left"] + box["width"], box["top"] + box["height"]))
    # One pass after the other, across and then down, as Pillow before 13 does it for all shapes.
    return image.resize((case["width"], image.height), mode).resize((case["width"], case["height"]), mode)
pixels = np.fromfile(sys.argv[2], np.uint8)
at = 0
def take(height, width):
    global at
    at += 3 * height * width
    return pixels[at - 3 * height * width:at].reshape(height, width, 3)
results = []
for case in json.load(open(sys.argv[1])):
    image = Image.fromarray(take(case["image"]["height"], case["image"]["width"]))
    image = crop(image, case)
    if case["flip"]: image = ImageOps.mirror(image)
    for step in case["operations"]: image = apply(image, step)
    apart = np.abs(np.asarray(image).astype(int) - take(case["height"], case["width"]))
    results.append([int((apart > 0).sum()), int(apart.max())])
print(json.dumps(results))
`;

interface Case {
  image: DecodedImage;
  /** Of the view. */
  height: number;
  width: number;
  crop: { top: number; left: number; height: number; width: number };
  interpolation: "bilinear" | "bicubic";
  flip: boolean;
  operations: ImageOperation[];
}

/** The cases whose pixels differ from PIL's. */
async function unequal(cases: readonly Case[]): Promise<unknown[]> {
  const pixels: Uint8Array[] = [];
  for (const { image, height, width, ...look } of cases) {
    const out = torch.empty([1, 3, height, width], { dtype: "uint8" });
    const rendering: Rendering = { output: 0, row: 0, ...look };
    const [outcome] = await pool.render([{ image, renderings: [rendering] }], [out]);
    if ("reason" in outcome!) throw new Error(outcome.reason);
    pixels.push(image.data.subarray(0, 3 * image.width * image.height), interleaved(out.data() as Uint8Array, height * width));
    out.dispose();
  }
  const told = cases.map(({ image: { height, width }, ...rest }) => ({ image: { height, width }, ...rest }));
  writeFileSync(`${folder}/cases.json`, JSON.stringify(told));
  writeFileSync(`${folder}/pixels`, Buffer.concat(pixels));
  const results = runPython<[number, number][]>(COMPARE, [`${folder}/cases.json`, `${folder}/pixels`]);
  expect(results).toHaveLength(cases.length);
  return told.flatMap((each, i) => (results[i]![0] === 0 ? [] : [{ ...each, different: results[i] }]));
}

const random = new RandomStream({ seed: 77, epoch: 0, index: 0, stream: 0 });
const within = (low: number, high: number): number => low + random.integer(high - low + 1);

/** Noise, few values, one value, or a part of a photograph. */
function picture(photo: DecodedImage, height: number, width: number): DecodedImage {
  const kind = random.integer(4);
  const [low, high] = [random.integer(256), random.integer(256)];
  const [top, left] = [random.integer(photo.height - height), random.integer(photo.width - width)];
  const data = Uint8Array.from({ length: 3 * height * width }, (_, i) => {
    if (kind === 0) return random.integer(256);
    if (kind === 1) return random.integer(3) === 0 ? low : high;
    if (kind === 2) return [low, high, 128][i % 3]!;
    const y = Math.floor(i / 3 / width), x = Math.floor(i / 3) % width;
    return photo.data[3 * ((top + y) * photo.width + left + x) + (i % 3)]!;
  });
  return { data, height, width };
}

const withPython = testPython === null ? test.skip : test;
const photo = (): Promise<DecodedImage> => decodeImage(readFileSync(fixturePath("augment/files/china.jpg")));

const argumentsOf: Record<OperationName, () => number> = {
  autoContrast: () => 0, equalize: () => 0, invert: () => 0,
  posterize: () => within(0, 8), solarize: () => within(0, 256), solarizeAdd: () => within(0, 255),
  color: () => random.uniform(0, 3), contrast: () => random.uniform(0, 3), brightness: () => random.uniform(0, 3),
  sharpness: () => (random.integer(8) === 0 ? random.integer(3) : random.uniform(0, 3)),
  rotate: () => (random.integer(8) === 0 ? 45 * within(-8, 8) : random.uniform(-200, 200)),
  shearX: () => random.uniform(-1.5, 1.5), shearY: () => random.uniform(-1.5, 1.5),
  translateX: () => (random.integer(8) === 0 ? within(-2, 2) / 4 : random.uniform(-1.1, 1.1)),
  translateY: () => (random.integer(8) === 0 ? within(-2, 2) / 4 : random.uniform(-1.1, 1.1)),
};
const names = Object.keys(argumentsOf) as OperationName[];

withPython.each(names)("%s gives PIL's pixels for 200 arguments, sizes and pictures", async (name) => {
  const image = await photo();
  const cases = Array.from({ length: 200 }, (): Case => {
    const [height, width] = [within(1, random.integer(2) ? 12 : 90), within(1, random.integer(2) ? 12 : 90)];
    const fill = [random.integer(256), random.integer(256), random.integer(256)] as const;
    const operation: ImageOperation = { name, argument: argumentsOf[name](), interpolation: random.integer(2) ? "bicubic" : "bilinear", fill };
    return {
      image: picture(image, height, width), height, width, crop: { top: 0, left: 0, height, width }, interpolation: "bilinear", flip: false,
      operations: [operation],
    };
  });
  expect(await unequal(cases)).toEqual([]);
});

withPython("bicubic crops have the pixels of PIL's two passes", async () => {
  const image = await photo();
  const cases = Array.from({ length: 300 }, (): Case => {
    const source = picture(image, within(1, 200), within(1, 200));
    const crop = { top: random.integer(source.height), left: random.integer(source.width), height: 0, width: 0 };
    crop.height = within(1, source.height - crop.top);
    crop.width = within(1, source.width - crop.left);
    return { image: source, height: within(1, 120), width: within(1, 120), crop, interpolation: "bicubic", flip: false, operations: [] };
  });
  expect(await unequal(cases)).toEqual([]);
});

withPython("150 views at 224 pixels as fine-tuning draws them: crop, flip, operations", async () => {
  const image = await photo();
  const cases: Case[] = [];
  const recipe = supervisedRecipe({ interpolation: "random", randAugment: "rand-m9-mstd0.5-n3-p0.9-inc1", erasing: null });
  for (let index = 0; index < 150; index++) {
    const draw = drawView(recipe, { seed: 3, epoch: 0, index, view: 0 });
    const out = torch.empty([1, 3, 224, 224], { dtype: "uint8" });
    const [outcome] = await pool.render([{ image, renderings: [{ output: 0, row: 0, crop: draw.crop }] }], [out]);
    out.dispose();
    if ("reason" in outcome!) throw new Error(outcome.reason);
    const { interpolation, flip, operations } = draw;
    cases.push({ image, height: 224, width: 224, crop: outcome!.crops[0]!, interpolation: interpolation!, flip, operations: [...operations!] });
  }
  expect(cases.some(({ flip, operations }) => flip && operations.some(({ name }) => name === "rotate"))).toBe(true);
  expect(await unequal(cases)).toEqual([]);
}, 120_000);
