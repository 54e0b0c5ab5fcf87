import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { DatasetError } from "../../../lib/data/datasets/datasetError.js";
import { OxfordPets } from "../../../lib/data/datasets/oxfordPets.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { runPython, testPython } from "../../support/python.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";

const root = fixturePath("datasets/pets");
const temporary = temporaryFolder("pets");

/** A data set of two lists, without images. */
function write(name: string, trainval: string, test = "Abyssinian_1 1 1 1\n"): string {
  const folder = join(temporary, name);
  mkdirSync(join(folder, "annotations"), { recursive: true });
  mkdirSync(join(folder, "images"));
  writeFileSync(join(folder, "annotations/trainval.txt"), trainval);
  writeFileSync(join(folder, "annotations/test.txt"), test);
  return folder;
}

const listed = (pets: OxfordPets) => ({
  paths: Array.from({ length: pets.length }, (_, i) => pets.name(i)),
  labels: Array.from({ length: pets.length }, (_, i) => pets.label(i)),
});

describe("Oxford-IIIT Pet", () => {
  test.each(["train", "test"] as const)("%s is what upstream's transfer code reads, in its order", async (split) => {
    const pets = await OxfordPets.open(root, { split });
    expect(listed(pets)).toEqual(readJson("datasets/pets.json")[split]);
    expect(pets.image(1)).toBe(join(root, pets.name(1)));
  });

  test("classes are named after the files", async () => {
    const { classes } = await OxfordPets.open(root);
    expect(classes.length).toBe(37);
    expect([classes[0], classes[1], classes[2], classes[35]]).toEqual(["Abyssinian", "American Bulldog", "breed 3", "Wheaten Terrier"]);
  });

  (testPython ? test : test.skip)("names, labels and classes are torchvision's", async () => {
    const breeds = ["Abyssinian", "american_bulldog", "american_pit_bull_terrier", "British_Shorthair", "Egyptian_Mau", "saint_bernard"];
    const lines = Array.from({ length: 37 }, (_, i) => `${breeds[i] ?? `breed_of_Some_Kind_${i}`}_${100 + i} ${i + 1} 1 ${i + 1}`);
    const folder = write("whole", `${lines.reverse().join("\n")}\n`);
    symlinkSync(folder, join(temporary, "oxford-iiit-pet"));
    const expected = runPython<{ classes: string[]; labels: number[]; names: string[] }>(`
import json, sys
from torchvision.datasets import OxfordIIITPet
pets = OxfordIIITPet(sys.argv[1])
names = ["images/" + path.name for path in pets._images]
print(json.dumps({"classes": pets.classes, "labels": pets._labels, "names": names}))`, [temporary]);
    const pets = await OxfordPets.open(temporary);
    expect(pets.classes).toEqual(expected.classes);
    expect(listed(pets)).toEqual({ paths: expected.names, labels: expected.labels });
    expect(await OxfordPets.recognise(temporary)).toBe(true);
  });

  test("other folders are not this data set", async () => {
    expect(await OxfordPets.recognise(root)).toBe(true);
    expect(await OxfordPets.recognise(fixturePath("datasets/flowers"))).toBe(false);
    expect(await OxfordPets.recognise(join(temporary, "nowhere"))).toBe(false);
  });

  test("damage is named", async () => {
    const failure = async (folder: string, options = {}): Promise<string> => {
      const error = await OxfordPets.open(folder, options).then(() => null, (thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(DatasetError);
      return (error as Error).message;
    };
    expect(await failure(fixturePath("datasets/flowers"))).toMatch(/does not hold the Oxford-IIIT Pet data set/);
    expect(await failure(root, { split: "val" })).toBe('split is "val"; Oxford-IIIT Pet has "train", "test"');
    expect(await failure(write("cut", "Abyssinian_1 1 1 1\nAbyssinian_2 1"))).toMatch(
      /trainval\.txt, line 2: expected a name and three numbers/,
    );
    expect(await failure(write("breed", "Abyssinian_1 38 1 1\n"))).toMatch(/line 1: the class is 38, not 1 to 37/);
    expect(await failure(write("outside", "../../secret_1 1 1 1\n"))).toMatch(/leads to another folder/);
    expect(await failure(write("two", "Abyssinian_1 1 1 1\nBengal_2 1 1 1\n"))).toMatch(/class 1 is "Abyssinian" and "Bengal"/);
    expect(await failure(write("empty", "\n"))).toMatch(/trainval\.txt is empty/);
  });

  test("an index outside the data set is refused", async () => {
    const pets = await OxfordPets.open(root);
    for (const index of [-1, 4, 0.5]) expect(() => pets.label(index)).toThrow(/there is no image .*; the data set has 4/);
  });
});
