/** Search and near-duplicates on real pictures, with copies planted among them. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { NearestError } from "../../lib/train/neighbours/nearest.js";
import { OptionError } from "../../lib/train/options.js";
import { findDuplicates, searchImages } from "../../lib/train/searchImages.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { embedFolder, plantedFolder, plantedGroups, untrainedEncoder } from "./plantedDuplicates.js";

expectNoTensorsLeft();
const folder = temporaryFolder("search");
const photos = join(folder, "photos");
const pretrained = join(folder, "encoder.pth.tar");
const embeddings = join(folder, "photos.npy");
const threshold = 0.98; // an encoder that has learned nothing yet tells pictures apart by their colours only

beforeAll(async () => {
  await plantedFolder(photos);
  await untrainedEncoder(pretrained);
  await embedFolder(photos, pretrained, embeddings);
});

const namesIn = (groups: readonly { images: readonly { name: string }[] }[]): string[][] => groups.map(({ images }) => images.map(({ name }) => name));
const planted = plantedGroups.map((group) => [...group].sort()).sort();

test("planted copies are found, and nothing else: in a folder, in a file, with an index", async () => {
  const result = await findDuplicates(photos, { pretrained, threshold });
  expect(result).toMatchObject({ images: 26, threshold, approximate: false, bad: [] });
  expect(namesIn(result.groups).map((names) => names.sort()).sort()).toEqual(planted);
  for (const { images, similarity } of result.groups) {
    expect(similarity).toBeGreaterThanOrEqual(threshold);
    expect(images[0]!.similarity).toBe(1);
    for (const each of images) expect(each.similarity).toBeGreaterThan(similarity - 1e-6);
  }
  expect(namesIn((await findDuplicates(embeddings, { threshold })).groups)).toEqual(namesIn(result.groups));
  const approximate = await findDuplicates(embeddings, { threshold, approximate: true });
  expect(approximate.approximate).toBe(true);
  expect(namesIn(approximate.groups)).toEqual(namesIn(result.groups));
});

test("a query is a file of its own, or one of the images, which is not its own neighbour", async () => {
  const copy = join(folder, "another.jpg");
  copyFileSync(join(photos, "flower.jpg"), copy);
  const inFolder = await searchImages([copy, join(photos, "china.jpg"), "china.jpg"], { in: photos, pretrained, k: 4 });
  expect(inFolder).toMatchObject({ images: 26, approximate: false, bad: [] });
  const [other, path, name] = inFolder.results.map(({ neighbours }) => neighbours.map((each) => each.name));
  expect(other!.slice(0, 2).sort()).toEqual(["flower-copy.jpg", "flower.jpg"]);
  expect(inFolder.results[0]!.neighbours[0]!.similarity).toBeCloseTo(1, 6);
  expect([...name!].sort()).toEqual(["china-copy.jpg", "china-cropped.jpg", "china-resized.jpg", "china-worse.jpg"]);
  expect(path).toEqual(name);
  // The same out of a file; a file that lies there is embedded, whatever its name.
  expect((await searchImages(["china.jpg"], { in: embeddings, k: 4 })).results[0]!.neighbours.map((each) => each.name)).toEqual(name);
  const [mixed, named] = (await searchImages([copy, "china.jpg"], { in: embeddings, pretrained, k: 4 })).results;
  expect(mixed!.neighbours.map((each) => each.name).slice(0, 2).sort()).toEqual(["flower-copy.jpg", "flower.jpg"]);
  expect(named!.neighbours.map((each) => each.name)).toEqual(name);
  expect((await searchImages([copy], { in: photos, pretrained })).results[0]!.neighbours).toHaveLength(10);
});

test("what cannot be compared says what to do", async () => {
  const broken = join(folder, "broken.jpg");
  writeFileSync(broken, "no image");
  const other = join(folder, "other.pth.tar");
  await untrainedEncoder(other, 24);
  const empty = join(folder, "empty");
  mkdirSync(empty);
  const unreadable = join(folder, "unreadable");
  mkdirSync(unreadable);
  copyFileSync(broken, join(unreadable, "a.jpg"));
  const query = join(photos, "flower.jpg");
  const cases: [() => Promise<unknown>, new (...args: never[]) => Error, RegExp][] = [
    [() => searchImages([broken], { in: photos, pretrained }), NearestError, /the query .*broken\.jpg cannot be read: .*mend the file/],
    [() => searchImages(["nowhere.jpg"], { in: embeddings }), NearestError, /no image nowhere\.jpg; give an image file, or the name of one of the images/],
    [() => searchImages([query], { in: embeddings }), NearestError, /it is none of the embedded images.*--pretrained/],
    [() => searchImages([query], { in: embeddings, pretrained: other }), NearestError, /features have 24 values, and those of the images 48/],
    [() => searchImages([query], { in: photos }), OptionError, /no embeddings file.*--pretrained/],
    [() => searchImages([query], { in: photos, pretrained, k: 26 }), OptionError, /k is 26, and there are 25 other images/],
    [() => findDuplicates(empty, { pretrained }), Error, /empty/],
    [() => findDuplicates(unreadable, { pretrained }), Error, /none of the images can be read \(a\.jpg/],
    [() => findDuplicates(join(folder, "none.npy"), {}), Error, /none\.npy.*moco embed/],
    [() => findDuplicates(photos, { pretrained, threshold: 0 }), OptionError, /threshold is 0/],
  ];
  for (const [fail, kind, message] of cases) {
    const failure = fail();
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toThrow(kind);
  }
});
