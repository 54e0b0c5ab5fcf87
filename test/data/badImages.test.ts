import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { ImageFolder, ImagePool, TooManyBadImagesError, TwoViewLoader, decodeImage } from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { png, synthetic, withFolder } from "./pixels.js";

expectNoTensorsLeft();

const photo = readFileSync(fixturePath("augment/files/restart_420.jpg"));

/** The photograph with other numbers in its frame header. */
function claiming(width: number, height: number): Buffer {
  const bytes = Buffer.from(photo);
  const frame = bytes.indexOf(Buffer.from([0xff, 0xc0]));
  bytes.writeUInt16BE(height, frame + 5);
  bytes.writeUInt16BE(width, frame + 7);
  return bytes;
}

/** The names and reasons that an epoch finds. */
async function badOf(folder: string, beforeEpoch: (folder: string) => void = () => undefined): Promise<Record<string, string>> {
  const loader = new TwoViewLoader(await ImageFolder.open(folder), { batchSize: 4, imageSize: 24, seed: 1, threads: 2, maxBad: 0.5 });
  try {
    beforeEpoch(folder);
    for await (const batch of loader.epoch(0)) {
      expect(batch.indices).toHaveLength(4);
      batch[Symbol.dispose]();
    }
    return Object.fromEntries(loader.bad.map(({ name, reason }) => [name, reason]));
  } finally {
    await loader.close();
  }
}

async function goodFiles(count: number): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for (let i = 0; i < count; i++) files[`good_${i}.${i % 2 ? "jpg" : "png"}`] = i % 2 ? photo : await png(synthetic(i));
  return files;
}

describe("bad images are named with what is wrong, and left out", () => {
  test("whatever is wrong with their contents", async () => {
    const files = {
      ...(await goodFiles(24)),
      "zero.jpg": "", "text.jpg": "hello", "half.jpg": photo.subarray(0, photo.length / 2), "header.jpg": photo.subarray(0, 40),
      "huge.jpg": claiming(60000, 60000), "flat.jpg": claiming(160, 0), "png_named.jpg": await png(synthetic(90)), "jpeg_named.png": photo,
    };
    await withFolder(files, async (folder) => {
      const bad = await badOf(folder);
      expect(Object.keys(bad).sort()).toEqual(["flat.jpg", "half.jpg", "header.jpg", "huge.jpg", "text.jpg", "zero.jpg"]);
      expect(bad["zero.jpg"]).toBe("the file is empty");
      expect(bad["huge.jpg"]).toMatch(/60000 x 60000/);
      expect(bad["text.jpg"]).toMatch(/known format/);
      expect(bad["half.jpg"]).toMatch(/truncated|premature end/i); // the second is sharp's word, in an addon without libjpeg-turbo
    });
  });

  test("whatever is wrong with the files", async () => {
    await withFolder(await goodFiles(24), async (folder) => {
      symlinkSync(join(folder, "nowhere"), join(folder, "broken_link.jpg"));
      writeFileSync(join(folder, "sparse.jpg"), "");
      truncateSync(join(folder, "sparse.jpg"), 2 ** 40);
      execFileSync("mkfifo", [join(folder, "pipe.jpg")]);
      const bad = await badOf(folder);
      expect(Object.keys(bad).sort()).toEqual(["broken_link.jpg", "pipe.jpg", "sparse.jpg"]);
      expect(bad["broken_link.jpg"]).toMatch(/ENOENT/);
      expect(bad["pipe.jpg"]).toMatch(/regular file/);
      expect(bad["sparse.jpg"]).toMatch(/1099511627776 bytes, more than the limit/);
    });
  });

  test("whatever happens to the files once the run has begun", async () => {
    await withFolder(await goodFiles(24), async (folder) => {
      const bad = await badOf(folder, () => {
        rmSync(join(folder, "good_3.jpg"));
        rmSync(join(folder, "good_4.png"));
        rmSync(join(folder, "good_5.jpg"));
        mkdirSync(join(folder, "good_5.jpg"));
        truncateSync(join(folder, "good_7.jpg"), 1000);
      });
      expect(Object.keys(bad).sort()).toEqual(["good_3.jpg", "good_4.png", "good_5.jpg", "good_7.jpg"]);
      expect([bad["good_3.jpg"], bad["good_4.png"], bad["good_5.jpg"]]).toEqual([
        expect.stringMatching(/ENOENT/), expect.stringMatching(/ENOENT/), expect.stringMatching(/EISDIR/),
      ]);
    });
  });

  test("until there are too many of them", async () => {
    await withFolder({ ...(await goodFiles(12)), "a.jpg": "", "b.jpg": "", "c.jpg": "" }, async (folder) => {
      const loader = new TwoViewLoader(await ImageFolder.open(folder), { batchSize: 2, imageSize: 24, seed: 1, maxBad: 0.15 });
      const run = async (): Promise<void> => {
        for await (const batch of loader.epoch(0)) batch[Symbol.dispose]();
      };
      await expect(run()).rejects.toThrow(TooManyBadImagesError);
      await loader.close();
    });
  });
});

test("whether an image is bad does not depend on the crop", async () => {
  const pool = new ImagePool(2);
  const out = torch.empty([1, 3, 8, 8], { dtype: "uint8" });
  for (const [name, bytes] of Object.entries({ whole: photo, half: photo.subarray(0, photo.length / 2) })) {
    const verdicts = new Set<boolean>();
    for (let top = 0; top < 100; top += 7) {
      const crop = { top, left: 3, height: 7, width: 20 };
      const [outcome] = await pool.render([{ image: bytes, renderings: [{ output: 0, row: 0, crop }] }], [out]);
      verdicts.add("reason" in outcome!);
    }
    const [checked] = await pool.render([{ image: bytes, renderings: [] }], []);
    verdicts.add("reason" in checked!);
    expect({ name, verdicts: [...verdicts] }).toEqual({ name, verdicts: [name === "half"] });
  }
  out.dispose();
  pool.close();
});

test("a crop outside an image whose size shows late is a reason, not an exception", async () => {
  const pool = new ImagePool(1);
  const out = torch.empty([1, 3, 8, 8], { dtype: "uint8" });
  const crop = { top: 0, left: 150, height: 7, width: 20 };
  const [outcome] = await pool.render([{ image: photo, renderings: [{ output: 0, row: 0, crop }] }], [out]);
  // The second where the addon has no libjpeg-turbo, so that pixels come from sharp.
  const message = /20 x 7 pixels at \(150, 0\) is not inside the image of 160 x 107|crop width is 20, not a whole number from 1 to 10/;
  expect(outcome).toEqual({ reason: expect.stringMatching(message) });
  out.dispose();
  pool.close();
});

test("EXIF orientation is honoured when asked for, in any format", async () => {
  const file = fixturePath("augment/files/exif_rot.jpg");
  const stored = await decodeImage(file);
  const upright = await decodeImage(file, { exif: true });
  expect([stored.width, stored.height, upright.width, upright.height]).toEqual([160, 107, 107, 160]);
  // Orientation 6: the stored picture is turned by a quarter to the right.
  for (const [x, y] of [[0, 0], [106, 0], [50, 77], [106, 159]] as const) {
    const from = 3 * ((106 - x) * 160 + y);
    expect([...upright.data.subarray(3 * (y * 107 + x), 3 * (y * 107 + x) + 3)]).toEqual([...stored.data.subarray(from, from + 3)]);
  }
  const range = { path: file, offset: 0, length: readFileSync(file).length };
  expect(await decodeImage(range, { exif: true })).toEqual(upright);
});
