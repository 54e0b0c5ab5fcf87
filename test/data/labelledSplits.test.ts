import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { isStream, LabelledDataError, openLabelledSplits, requireLabels, type LabelledSplitsOptions } from "../../lib/data/index.js";
import { writeDigits } from "../support/digits.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { png, synthetic } from "./pixels.js";
import { tarArchive } from "./shards/tarArchive.js";

const root = temporaryFolder("splits");
const digits = join(root, "digits");
beforeAll(() => writeDigits(digits, { count: 400, pixels: 8 }));

const sizes = async (data: string, options?: LabelledSplitsOptions): Promise<[number, number, number | null]> => {
  const { classes, train, val } = await openLabelledSplits(data, options);
  return [classes.length, train.length, val?.length ?? null];
};
const failure = async (data: string, options?: LabelledSplitsOptions): Promise<string> => {
  const error = await openLabelledSplits(data, options).then(() => null, (thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(LabelledDataError);
  return (error as Error).message;
};
/** A copy of the digits' folder with something done to it. */
function variant(name: string, change: (folder: string) => void): string {
  const folder = join(root, name);
  cpSync(digits, folder, { recursive: true });
  change(folder);
  return folder;
}

describe("a folder", () => {
  test("has its classes in both parts, numbered alike", async () => {
    expect(await sizes(digits)).toEqual([10, 320, 80]);
    const { train, val } = await openLabelledSplits(digits);
    for (const part of [train, val!]) {
      if (isStream(part)) throw new Error("a folder is no stream");
      for (let i = 0; i < part.length; i++) expect(part.label!(i)).toBe(Number(part.name!(i).split("/").at(-2)));
    }
  });

  test.each(["validation", "valid", "test"])("may call its second part %s", async (name) => {
    const folder = variant(name, (at) => {
      cpSync(join(at, "val"), join(at, name), { recursive: true });
      rmSync(join(at, "val"), { recursive: true });
    });
    expect(await sizes(folder)).toEqual([10, 320, 80]);
    expect(await sizes(`folder:${folder}`)).toEqual([10, 320, 80]);
  });

  test("without a second part has none, unless one is given", async () => {
    expect(await sizes(join(digits, "train"))).toEqual([10, 320, null]);
    expect(await sizes(join(digits, "train"), { val: join(digits, "val") })).toEqual([10, 320, 80]);
    const without = variant("without", (at) => rmSync(join(at, "val"), { recursive: true }));
    expect(await sizes(without)).toEqual([10, 320, null]);
  });

  test("with other classes in its second part is refused, with their names", async () => {
    const fewer = variant("fewer", (at) => ["3", "7"].forEach((digit) => rmSync(join(at, "val", digit), { recursive: true })));
    expect(await failure(fewer)).toMatch(/^the validation part of .*fewer has no images of 3, 7; both parts need the same classes: add the missing folders/);
    const more = variant("more", (at) => cpSync(join(at, "val", "1"), join(at, "val", "ten"), { recursive: true }));
    expect(await failure(more)).toMatch(/has images of classes that are not trained on: ten;/);
    const many = variant("many", (at) => [0, 1, 2, 3, 4, 5, 6].forEach((digit) => rmSync(join(at, "val", String(digit)), { recursive: true })));
    expect(await failure(many)).toContain("has no images of 0, 1, 2, 3, 4 and 2 more;");
  });

  test("without classes is refused", async () => {
    expect(await failure(join(digits, "train", "1"))).toMatch(/have no classes: give each class a folder of its own, or a list/);
  });

  test("may be said to have more classes than it has names, not fewer", async () => {
    expect(await sizes(digits, { numClasses: 1000 })).toEqual([10, 320, 80]);
    expect(await failure(digits, { numClasses: 9 })).toMatch(/has 10 classes, more than 9; leave the number \(--num-classes\) out/);
  });
});

describe("benchmark data sets are judged by their own second part", () => {
  test("Flowers-102", async () => {
    const { classes, train, val } = await openLabelledSplits(fixturePath("datasets/flowers"));
    expect([train.length > 0, val!.length > 0, val!.classes]).toEqual([true, true, classes]);
  });

  test("Oxford-IIIT Pet; parts that name other breeds are refused", async () => {
    const pets = join(root, "pets");
    for (const name of ["images", "annotations"]) mkdirSync(join(pets, name), { recursive: true });
    for (let i = 0; i < 4; i++) writeFileSync(join(pets, "images", `Abyssinian_${i}.jpg`), await png(synthetic(i)));
    for (const [name, numbers] of [["trainval", [0, 1, 2]], ["test", [3]]] as const) {
      writeFileSync(join(pets, "annotations", `${name}.txt`), numbers.map((i) => `Abyssinian_${i} 1 1 1\n`).join(""));
    }
    expect(await sizes(pets)).toEqual([37, 3, 1]);
    expect(await failure(fixturePath("datasets/pets"))).toMatch(/pets has no images of Wheaten Terrier/);
  });
});

describe("lists", () => {
  test("have classes by their labels, and no second part of their own", async () => {
    const list = (name: string, labels: readonly string[]): string => {
      const path = join(root, name);
      writeFileSync(path, labels.map((label, i) => `digits/val/${i}/${String(5 * i).padStart(4, "0")}.png\t${label}\n`).join(""));
      return path;
    };
    mkdirSync(join(root, "lists"), { recursive: true });
    const files = ["train.tsv", "val.tsv"].map((name) => list(name, ["a", "b"]));
    await expect(openLabelledSplits(files[0]!)).resolves.toMatchObject({ classes: ["a", "b"], val: null });
    await expect(openLabelledSplits(files[0]!, { val: files[1]! })).resolves.toMatchObject({ classes: ["a", "b"], val: { length: 2 } });
    expect(await failure(files[0]!, { val: list("other.tsv", ["a", "c"]) })).toMatch(/has no images of b/);
  });
});

describe("shards", () => {
  let shards: string;
  beforeAll(async () => {
    shards = join(root, "shards");
    mkdirSync(shards);
    for (const [part, count] of [["train", 6], ["val", 4]] as const) {
      const members = await Promise.all(Array.from({ length: count }, async (_, i) =>
        [{ name: `${part}${i}.png`, data: await png(synthetic(i)) }, { name: `${part}${i}.cls`, data: String(i % 3) }]));
      writeFileSync(join(shards, `${part}-000.tar`), tarArchive(members.flat()));
    }
    writeFileSync(join(root, "packed.tar.gz"), gzipSync(readFileSync(join(shards, "train-000.tar"))));
  });

  test("of both splits in one folder, whose classes are the labels' numbers", async () => {
    const { classes, train, val } = await openLabelledSplits(shards);
    expect([classes, train.length, val!.length]).toEqual([["0", "1", "2"], 6, 4]);
  });

  test("that name no splits have no second part", async () => {
    expect(await sizes(join(shards, "train-000.tar"))).toEqual([3, 6, null]);
    expect(await sizes(join(shards, "train-000.tar"), { val: join(shards, "val-000.tar") })).toEqual([3, 6, 4]);
  });

  test("that are not read before training need the number of classes", async () => {
    const packed = join(root, "packed.tar.gz");
    expect(await failure(packed, { length: 6 })).toMatch(/have no classes: say how many classes its labels count \(--num-classes\)/);
    expect(await sizes(packed, { length: 6, numClasses: 3, val: join(shards, "val-000.tar") })).toEqual([3, 6, 4]);
  });
});

test("labels that are needed are checked, row by row", () => {
  const name = (row: number): string => `picture ${row}`;
  expect(requireLabels([0, 2, 1], 3, name)).toEqual([0, 2, 1]);
  expect(() => requireLabels([0, null], 3, name)).toThrow(/^picture 1 has no label; put it into the folder of its class/);
  expect(() => requireLabels([0, 3], 3, name)).toThrow(/^picture 1 has the label 3, and there are 3 classes, counted from 0/);
});
