import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { DatasetError } from "../../../lib/data/datasets/datasetError.js";
import { Flowers102 } from "../../../lib/data/datasets/flowers102.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";

const root = fixturePath("datasets/flowers");
const temporary = temporaryFolder("flowers");

/** A copy without the images. */
function copy(name: string): string {
  const target = join(temporary, name);
  mkdirSync(join(target, "jpg"), { recursive: true });
  for (const file of ["imagelabels.mat", "setid.mat"]) copyFileSync(join(root, file), join(target, file));
  return target;
}

const listed = (flowers: Flowers102) => ({
  paths: Array.from({ length: flowers.length }, (_, i) => flowers.name(i)),
  labels: Array.from({ length: flowers.length }, (_, i) => flowers.label(i)),
});

describe("Flowers-102", () => {
  test.each(["train", "test"] as const)("%s is what upstream's transfer code reads, in its order", async (split) => {
    const flowers = await Flowers102.open(root, { split });
    expect(listed(flowers)).toEqual(readJson("datasets/flowers.json")[split]);
    expect(flowers.image(0)).toBe(join(root, flowers.name(0)));
  });

  test("train is the default, and made of trnid and valid", async () => {
    const [whole, first, second] = await Promise.all(
      [{}, { split: "trnid" }, { split: "valid" }].map((options) => Flowers102.open(root, options as object)),
    );
    expect(whole!.length).toBe(5);
    expect(listed(whole!).paths).toEqual([...listed(first!).paths, ...listed(second!).paths]);
    expect(whole!.classes[whole!.label(0)]).toBe("monkshood"); // of image 7, whose class is the ninth
    expect(whole!.classes.length).toBe(102);
  });

  test("the folder above is accepted, and others are not this data set", async () => {
    copy("above/flowers-102");
    expect(await Flowers102.recognise(root)).toBe(true);
    expect(await Flowers102.recognise(join(temporary, "above"))).toBe(true);
    expect((await Flowers102.open(join(temporary, "above"))).root).toBe(join(temporary, "above/flowers-102"));
    expect(await Flowers102.recognise(temporary)).toBe(false);
    expect(await Flowers102.recognise(fixturePath("datasets/pets"))).toBe(false);
    expect(await Flowers102.recognise(join(temporary, "nowhere"))).toBe(false);
  });

  test("damage is named", async () => {
    const failure = async (folder: string, options = {}): Promise<string> => {
      const error = await Flowers102.open(folder, options).then(() => null, (thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(DatasetError);
      return (error as Error).message;
    };
    expect(await failure(temporary)).toMatch(/does not hold the Oxford Flowers 102 data set: imagelabels\.mat or setid\.mat is missing/);
    expect(await failure(root, { split: "val" })).toBe('split is "val"; Oxford Flowers 102 has "train", "test", "trnid", "valid"');

    const withoutImages = copy("withoutImages");
    rmSync(join(withoutImages, "jpg"), { recursive: true });
    expect(await failure(withoutImages)).toMatch(/jpg is missing; unpack 102flowers\.tgz into/);

    const swapped = copy("swapped");
    copyFileSync(join(root, "imagelabels.mat"), join(swapped, "setid.mat"));
    expect(await failure(swapped)).toMatch(/setid\.mat has no numbers called trnid/);

    const otherNumbers = copy("otherNumbers");
    writeFileSync(join(otherNumbers, "imagelabels.mat"), withLabels([1, 2, 103]));
    expect(await failure(otherNumbers)).toMatch(/imagelabels\.mat: labels has 103, not a whole number from 1 to 102/);
    writeFileSync(join(otherNumbers, "imagelabels.mat"), withLabels([1, 2, 3]));
    expect(await failure(otherNumbers)).toMatch(/setid\.mat: trnid has 7, not a whole number from 1 to 3/);

    const cut = copy("cut");
    writeFileSync(join(cut, "setid.mat"), "MATLAB 5.0");
    expect(await failure(cut)).toMatch(new RegExp(`${basename(cut)}.setid\\.mat: it is no MAT-file`));
  });

  test("an index outside the data set is refused", async () => {
    const flowers = await Flowers102.open(root);
    for (const index of [-1, 5, 0.5]) expect(() => flowers.image(index)).toThrow(/there is no image .*; the data set has 5/);
  });
});

/** A MAT-file with a row of numbers called `labels`. */
function withLabels(labels: number[]): Buffer {
  const header = Buffer.alloc(128, " ");
  header.write("\x00\x01IM", 124, "latin1");
  const words = (...numbers: number[]): Buffer => Buffer.from(Uint32Array.from(numbers).buffer);
  const values = Buffer.alloc(Math.ceil(labels.length / 8) * 8);
  values.set(labels);
  const parts = [words(6, 8, 9, 0), words(5, 8, 1, labels.length), words(1, 6), Buffer.from("labels\0\0"), words(2, labels.length), values];
  const length = parts.reduce((total, part) => total + part.length, 0);
  return Buffer.concat([header, words(14, length), ...parts]);
}
