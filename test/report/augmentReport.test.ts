import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import sharp from "sharp";
import { drawView, fitView, viewRecipes } from "../../lib/data/augmentation/augmentation.js";
import { supervisedRecipe } from "../../lib/data/augmentation/supervisedRecipe.js";
import { DataOptionError, imageNetNormalization, TwoViewLoader, type ImageSource, type ImageStream } from "../../lib/data/index.js";
import { augmentPage } from "../../lib/report/augmentPage.js";
import { writeAugmentReport } from "../../lib/report/augmentReport.js";
import { ReportFileError } from "../../lib/report/reportFile.js";
import { AugmentSheetError, drawAugmentSheet, type AugmentSheet } from "../../lib/report/augmentSheet.js";
import { recipeLines, viewWords } from "../../lib/report/augmentWords.js";
import { contactSheetPng } from "../../lib/report/contactSheet.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("augment-report");

const files = readdirSync(fixturePath("augment/files")).sort();
/** JPEGs of every kind and PNGs, by path; index 3 is missing. */
const missing = 3;
const photographs: ImageSource = {
  length: files.length,
  classes: ["even", "odd"],
  name: (index) => files[index]!,
  label: (index) => index % 2,
  image: (index) => (index === missing ? join(folder, "nowhere.jpg") : fixturePath(`augment/files/${files[index]!}`)),
};

function streamOf(source: ImageSource, ids: readonly number[]): ImageStream {
  return {
    length: ids.length,
    async *stream() {
      for (const id of ids) yield { id, name: `member ${id}`, label: null, image: source.image(id) };
    },
  };
}

const { mean, std } = imageNetNormalization;

/** A row of a batch [N, 3, side, side] of the loader as the pixels that it was made from. */
function pixelsOf(batch: Float32Array, row: number, side: number): Uint8Array {
  const area = side * side;
  const pixels = new Uint8Array(3 * area);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) {
      const value = (batch[(3 * row + c) * area + i]! * std[c]! + mean[c]!) * 255;
      if (Math.abs(value - Math.round(value)) > 1e-3) throw new Error(`${value} is no pixel`);
      pixels[3 * i + c] = Math.round(value);
    }
  }
  return pixels;
}

/** Compares a sheet with the first batch of training. */
async function expectTrainingsFirstBatch(
  sheet: AugmentSheet, source: ImageSource | ImageStream, cropMin: number, exif = false,
): Promise<void> {
  const { seed, epoch, imageSize, rows } = sheet;
  const loader = new TwoViewLoader(source, { batchSize: rows.length, imageSize, seed, cropMin, exif, maxBad: 0.5 });
  for await (const { views, indices } of loader.epoch(epoch)) {
    expect(rows.map(({ index }) => index)).toEqual(indices);
    views.forEach((view, number) => {
      const batch = view.data() as Float32Array;
      rows.forEach((row, i) => {
        const same = Buffer.from(pixelsOf(batch, i, imageSize)).equals(row.views[number]!.pixels.data);
        expect([row.name, number, same]).toEqual([row.name, number, true]);
      });
      view.dispose();
    });
    break;
  }
  expect(loader.bad.map(({ index }) => index)).toEqual(sheet.bad.map(({ index }) => index));
  await loader.close();
}

describe("a sheet has what training gets", () => {
  test("the same images, pixels and parameters for the same seed, epoch and index", async () => {
    const sheet = await drawAugmentSheet(photographs, { rows: files.length, seed: 5, epoch: 2, imageSize: 48, cropMin: 0.2 });
    expect(sheet.rows).toHaveLength(files.length - 1);
    expect(sheet.bad).toEqual([{ index: missing, name: files[missing], reason: expect.stringContaining("ENOENT") }]);
    await expectTrainingsFirstBatch(sheet, photographs, 0.2);
    const recipes = viewRecipes(0.2);
    for (const { index, label, width, height, views } of sheet.rows) {
      expect(label).toBe(index % 2 === 0 ? "even" : "odd");
      views.forEach(({ pixels: _, ...parameters }, view) => {
        expect(parameters).toEqual(fitView(drawView(recipes[view]!, { seed: 5, epoch: 2, index, view }), width, height));
      });
    }
  });

  test("the first images of the epoch, and others with another seed or epoch", async () => {
    const names = async (seed: number, epoch: number): Promise<string[]> =>
      (await drawAugmentSheet(photographs, { rows: 4, seed, epoch, imageSize: 16 })).rows.map(({ name }) => name);
    const some = await names(0, 0);
    expect(some).toHaveLength(4);
    expect(await names(0, 0)).toEqual(some);
    expect(await names(1, 0)).not.toEqual(some);
    expect(await names(0, 1)).not.toEqual(some);
  });

  test("of a stream, in its order, each image once", async () => {
    const stream = streamOf(photographs, [7, 1, missing, 10]);
    const sheet = await drawAugmentSheet(stream, { rows: 9, imageSize: 32, seed: 3 });
    expect(sheet.rows.map(({ index, name, label }) => [index, name, label]))
      .toEqual([[7, "member 7", null], [1, "member 1", null], [10, "member 10", null]]);
    expect(sheet.bad.map(({ name }) => name)).toEqual([`member ${missing}`]);
    await expectTrainingsFirstBatch(sheet, stream, 0.08);
  });

  test("upright with exif", async () => {
    const turned: ImageSource = { length: 1, image: () => fixturePath("augment/files/exif_rot.jpg") };
    const lying = (await drawAugmentSheet(turned, { imageSize: 24 })).rows[0]!;
    const sheet = await drawAugmentSheet(turned, { imageSize: 24, exif: true });
    const upright = sheet.rows[0]!;
    expect([lying.width, lying.height, lying.original.width]).toEqual([160, 107, 160]);
    expect([upright.width, upright.height, upright.original.width]).toEqual([107, 160, 107]);
    await expectTrainingsFirstBatch(sheet, turned, 0.08, true);
  });
});

describe("errors", () => {
  test("no image can be read", async () => {
    const lost: ImageSource = { length: 500, image: (index) => join(folder, `${index}.jpg`) };
    const attempt = drawAugmentSheet(lost, { imageSize: 8 });
    await expect(attempt).rejects.toThrow(AugmentSheetError);
    await expect(attempt).rejects.toThrow(/none of the first 1\d\d images can be read \(image \d+: .*\); mend them/);
    const empty: ImageSource = { length: 0, image: () => "" };
    await expect(drawAugmentSheet(empty)).rejects.toThrow(/no images/);
  });

  test("a source that throws or gives too few pixels has bad images", async () => {
    const source: ImageSource = {
      length: 3,
      image: (index) => {
        if (index === 0) throw new Error("thrown");
        return index === 1 ? { data: new Uint8Array(5), width: 2, height: 2 } : fixturePath("augment/files/gray.jpg");
      },
    };
    const { rows, bad } = await drawAugmentSheet(source, { imageSize: 8 });
    expect(rows.map(({ index }) => index)).toEqual([2]);
    expect(Object.fromEntries(bad.map(({ index, reason }) => [index, reason])))
      .toEqual({ 0: "thrown", 1: expect.stringMatching(/5 bytes for 2 x 2/) });
  });

  test("options outside their ranges", async () => {
    for (const options of [{ rows: 0 }, { seed: -1 }, { epoch: 0.5 }, { imageSize: 0 }, { cropMin: 0 }, { cropMin: 2 }]) {
      await expect(drawAugmentSheet(photographs, options)).rejects.toThrow(DataOptionError);
    }
  });
});

test("parameters in words, in the order in which they are applied", () => {
  const view = {
    crop: { top: 5, left: 20, width: 80, height: 50 },
    jitter: { order: [3, 1, 0, 2], brightness: 1.123, contrast: 0.6, saturation: 1, hue: -0.042 },
    grayscale: true, blurSigma: 1.318, solarize: 128, flip: true,
  };
  expect(viewWords(view, { width: 160, height: 100 })).toEqual([
    "crop 80 × 50 at 20, 5: 25 %", "hue −15.1°", "contrast × 0.60", "brightness × 1.12", "saturation × 1.00", "grayscale",
    "blur, σ 1.32 px", "solarize from 128", "flip",
  ]);
  expect(viewWords({ ...view, jitter: null, grayscale: false, blurSigma: null, solarize: null, flip: false }, { width: 500, height: 200 }))
    .toEqual(["crop 80 × 50 at 20, 5: 4 %"]);
});

describe("a page", () => {
  const hostile: ImageSource = {
    length: 2,
    classes: ["</figure><script>alert(1)</script>"],
    name: (index) => ['<img src=x onerror="alert(1)">\u0000\u001b[31m\u202egpj', "it's \"&amp;\" <b>.jpg"][index]!,
    label: () => 0,
    image: (index) => fixturePath(`augment/files/${["china.jpg", "rgba.png"][index]!}`),
  };

  test("has the views' pixels without loss, the crops on the original, and all parameters", async () => {
    const sheet = await drawAugmentSheet(photographs, { rows: 3, imageSize: 40, seed: 2 });
    const page = await augmentPage(sheet);
    const views = [...page.matchAll(/<img src="data:image\/webp;base64,([^"]+)"/g)].map((match) => Buffer.from(match[1]!, "base64"));
    expect(views).toHaveLength(6);
    const rects = [...page.matchAll(/<rect class="(\w+) box" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"/g)];
    for (const [i, row] of sheet.rows.entries()) {
      for (const [view, { pixels, crop, ...parameters }] of row.views.entries()) {
        const { data, info } = await sharp(views[2 * i + view]).raw().toBuffer({ resolveWithObject: true });
        expect([info.width, info.height, info.channels, data.equals(pixels.data)]).toEqual([40, 40, 3, true]);
        const [, name, ...box] = rects[2 * i + view]!;
        expect([name, ...box.map(Number)]).toEqual([["one", "two"][view], crop.left, crop.top, crop.width, crop.height]);
        for (const words of viewWords({ crop, ...parameters }, row)) expect(page).toContain(`<li>${words}</li>`);
      }
      expect(page).toContain(`viewBox="0 0 ${row.width} ${row.height}"`);
    }
    const original = Buffer.from(/<image href="data:image\/webp;base64,([^"]+)"/.exec(page)![1]!, "base64");
    const { width, height } = sheet.rows[0]!.original;
    expect(await sharp(original).metadata()).toMatchObject({ width, height });
  });

  test("tells the recipe and what was drawn", async () => {
    const sheet = await drawAugmentSheet(photographs, { rows: 11, imageSize: 8, seed: 2 });
    const lines = recipeLines(sheet);
    expect(lines.map(({ operation, views }) => [operation, views[0].probability, views[1].probability])).toEqual([
      ["crop, resized", "100 %", "100 %"], ["colour jitter", "80 %", "80 %"], ["grayscale", "20 %", "20 %"], ["blur", "100 %", "10 %"],
      ["solarize", "0 %", "20 %"], ["flip", "50 %", "50 %"],
    ]);
    expect(lines[0]!.strength).toBe("8 % to 100 % of the area, 0.75 to 1.33 as wide as high");
    expect(lines[1]!.strength).toBe("brightness × 0.6 to 1.4, contrast × 0.6 to 1.4, saturation × 0.8 to 1.2, hue ± 36°; in any order");
    const flips = sheet.rows.filter(({ views }) => views[1].flip).length;
    expect(lines[5]!.views[1].drawn).toBe(`${flips} of 11`);
    expect(lines[3]!.views[0].drawn).toBe("11 of 11");
    const page = await augmentPage(sheet);
    expect(page).toContain(`<td>${flips} of 11</td>`);
    expect(page).toContain(`<bdi>${files[missing]}</bdi>: `);
  });

  test("takes names as text, and loads and runs nothing", async () => {
    const page = await augmentPage(await drawAugmentSheet(hostile, { imageSize: 16 }));
    expect(page).not.toMatch(/<script|<img src=x|<b>\.jpg|https?:(?!\/\/www\.w3\.org)|[\u0000\u001b\u202e]/);
    expect(page).toContain("&#60;img src=x onerror=&#34;alert(1)&#34;&#62;\ufffd\ufffd[31m\ufffdgpj");
    expect(page).toContain("it&#39;s &#34;&#38;amp;&#34; &#60;b&#62;.jpg");
    expect([...page.matchAll(/\b(?:src|href)="([^"]{5})/g)].map((match) => match[1])).toEqual(Array(6).fill("data:"));
    expect(page).toContain("default-src 'none'");
  });

  test("as a picture has the views' pixels too, and draws hostile names", async () => {
    const sheet = await drawAugmentSheet(hostile, { imageSize: 100, seed: 1 });
    const { data, info } = await sharp(await contactSheetPng(sheet)).raw().toBuffer({ resolveWithObject: true });
    expect(info.channels).toBe(3);
    for (const { views } of sheet.rows) {
      for (const { pixels } of views) {
        const line = (y: number): Buffer => Buffer.from(pixels.data.buffer, pixels.data.byteOffset + 300 * y, 300);
        const at = data.indexOf(line(0));
        expect(at).toBeGreaterThan(0);
        for (let y = 1; y < 100; y++) {
          const start = at + y * 3 * info.width;
          expect(data.subarray(start, start + 300).equals(line(y))).toBe(true);
        }
      }
    }
  });
});

describe("the file", () => {
  const one: ImageSource = { length: 1, name: () => "gray", image: () => fixturePath("augment/files/gray.jpg") };

  test("is a page or a picture by its ending; the report has all parameters", async () => {
    const html = join(folder, "new", "views.HTML");
    const report = await writeAugmentReport(one, html, { imageSize: 20, seed: 4 });
    expect(readFileSync(html, "utf8")).toMatch(/^<!doctype html>/);
    const bytes = readFileSync(html).length;
    expect(report).toMatchObject({ out: html, bytes, total: 1, seed: 4, epoch: 0, imageSize: 20, bad: [], warnings: [] });
    const image = report.images[0]!;
    const drawn = fitView(drawView(viewRecipes()[0], { seed: 4, epoch: 0, index: 0, view: 0 }), 160, 107);
    const { crop } = drawn;
    expect(image.views[0]).toEqual({ ...drawn, cropShare: (crop.width * crop.height) / (160 * 107), jitter: expect.anything() });
    const names = ["brightness", "contrast", "saturation", "hue"];
    expect(image.views[0].jitter).toEqual({ ...drawn.jitter, order: drawn.jitter!.order.map((operation) => names[operation]) });

    const png = join(folder, "new", "views.png");
    expect(await writeAugmentReport(one, png, { imageSize: 20 })).toMatchObject({ out: png });
    expect((await sharp(png).metadata()).format).toBe("png");
    expect(readdirSync(join(folder, "new")).sort()).toEqual(["views.HTML", "views.png"]);
    expect(await writeAugmentReport(one, null)).toMatchObject({ out: null, bytes: 0, total: 1 });
  });

  test("names RandAugment's operations, and what is erased, where a recipe has them", async () => {
    const { randAugment, erasing } = supervisedRecipe({ randAugment: "rand-n3-p1", erasing: 1 });
    const html = join(folder, "supervised.html");
    const { images } = await writeAugmentReport(one, html, { imageSize: 24, augmentation: [{ randAugment, erasing }, {}] });
    expect(images[0]!.views[0].operations).toHaveLength(3);
    const page = readFileSync(html, "utf8");
    for (const { name } of images[0]!.views[0].operations!) expect(page).toContain(name);
    expect(page).toContain("3 operations of magnitude 10; view 2: none");
    expect(page).toContain("erasing (not shown)");
  });

  test("is refused with another ending, and stays as it was when it cannot be written", async () => {
    await expect(writeAugmentReport(one, join(folder, "views.pdf"))).rejects.toThrow(ReportFileError);
    const taken = join(folder, "taken.html");
    mkdirSync(taken);
    writeFileSync(join(taken, "kept"), "");
    await expect(writeAugmentReport(one, taken, { imageSize: 8 })).rejects.toThrow(/taken\.html cannot be written: .*choose another --out/);
    expect(readdirSync(taken)).toEqual(["kept"]);
    await expect(writeAugmentReport(one, join(taken, "kept", "views.html"), { imageSize: 8 })).rejects.toThrow(ReportFileError);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(existsSync(join(folder, "views.pdf"))).toBe(false);
  });
});
