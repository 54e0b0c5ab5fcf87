import { copyFile, mkdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { Cifar } from "../../lib/data/datasets/cifar.js";
import { Flowers102 } from "../../lib/data/datasets/flowers102.js";
import { OxfordPets } from "../../lib/data/datasets/oxfordPets.js";
import { FileList } from "../../lib/data/list/fileList.js";
import { ImageFolder } from "../../lib/data/folder/imageFolder.js";
import { openImages, type OpenImagesOptions } from "../../lib/data/openImages.js";
import { ParquetImages } from "../../lib/data/shards/parquetImages.js";
import { WebDataset } from "../../lib/data/shards/webDataset.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { imageMembers, tarArchive } from "./shards/tarArchive.js";

process.env.MOCO_CACHE = temporaryFolder("open-cache");
const temporary = temporaryFolder("open");
const tar = (images: number): Buffer => tarArchive(imageMembers(images));
const parquet = fixturePath("shards/hf-snappy.parquet"); // 13 rows
let made = 0;

/** A new folder with the given files; a `.parquet` without content is the fixture. */
async function folderOf(files: Record<string, Uint8Array | string | null>): Promise<string> {
  const folder = join(temporary, String(made++));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await (content === null ? copyFile(parquet, join(folder, name)) : writeFile(join(folder, name), content));
  }
  return folder;
}

async function opens(given: string | string[], kind: object, length: number, options: OpenImagesOptions = {}): Promise<void> {
  const images = await openImages(given, options);
  expect(images.constructor).toBe(kind);
  expect(images.length).toBe(length);
}

const refused = (given: string | string[], message: RegExp, name: string, options: OpenImagesOptions = {}): Promise<void> =>
  expect(openImages(given, options)).rejects.toMatchObject({ name, message: expect.stringMatching(message) });

describe("a folder is recognised by what is in it", () => {
  test("images, in classes, in train/ or flat", async () => {
    await opens(await folderOf({ "b/1.png": "", "a/2.png": "", "shards.tar": tar(1) }), ImageFolder, 2);
    await opens(await folderOf({ "1.png": "", "x.parquet": null }), ImageFolder, 1);
    const splits = await folderOf({ "train/a/1.png": "", "val/a/2.png": "", "val/a/3.png": "" });
    await opens(splits, ImageFolder, 1);
    await opens(splits, ImageFolder, 2, { split: "val" });
  });

  test("tar shards, those of the wanted split by their names", async () => {
    await opens(await folderOf({ "0.tar": tar(2), "1.tar": tar(3), "README.md": "", ".cache/x": "" }), WebDataset, 5);
    const named = await folderOf({ "set-train-00.tar": tar(2), "set-train-01.tar": tar(3), "set-val-00.tar": tar(1) });
    await opens(named, WebDataset, 5);
    await opens(named, WebDataset, 1, { split: "val" });
    await refused(named, /holds 3 shards of these splits: train, val; name the files of test/, "UnknownDataError", { split: "test" });
    await opens(await folderOf({ "val-0.tar": tar(4) }), WebDataset, 4);
    await opens(await folderOf({ "train/0.tar": tar(2), "test/0.tar": tar(3) }), WebDataset, 2);
    await refused(await folderOf({ "a.tar": tar(1), "b.parquet": null }), /1 tar and 1 Parquet files; name those/, "UnknownDataError");
    await refused(await folderOf({ "a.tar": tar(1), "test.tar": tar(1) }), /none told by its name, test; name/, "UnknownDataError");
  });

  test("Parquet files, also in data/ as Hugging Face has them", async () => {
    const hub = await folderOf({ "README.md": "", "data/train-00000-of-00002.parquet": null, "data/train-00001-of-00002.parquet": null,
      "data/validation-00000-of-00001.parquet": null });
    await opens(hub, ParquetImages, 26);
    await opens(hub, ParquetImages, 13, { split: "val" });
    await opens(await folderOf({ "x.parquet": null }), ParquetImages, 13);
  });

  test("Flowers-102, Oxford-IIIT Pet and CIFAR", async () => {
    await opens(fixturePath("datasets/flowers"), Flowers102, 5);
    await opens(fixturePath("datasets/pets"), OxfordPets, (await OxfordPets.open(fixturePath("datasets/pets"))).length);
    const cifar = await folderOf({ "test_batch.bin": "" });
    await copyFile(fixturePath("datasets/cifar-10-batches-bin/batches.meta.txt"), join(cifar, "batches.meta.txt"));
    await truncate(join(cifar, "test_batch.bin"), 10_000 * 3073);
    await opens(cifar, Cifar, 10_000, { split: "test" });
    await opens(`cifar10:${cifar}`, Cifar, 10_000, { split: "test" });
    await refused(`cifar100:${cifar}`, /holds CIFAR-10, not CIFAR-100/, "UnknownDataError", { split: "test" });
    await refused(cifar, /split is "val"; CIFAR has "train", "test"/, "DatasetError", { split: "val" });
  });

  test("nothing of use", async () => {
    await refused(await folderOf({ "x.doc": "" }), /no images in .*\nImages can be:\n +DIR/s, "ImageFolderError");
  });
});

describe("a file is recognised by its ending", () => {
  test("lists", async () => {
    for (const ending of ["txt", "lst", "CSV", "tsv"]) {
      const folder = await folderOf({ "1.png": "", [`all.${ending}`]: "1.png\n" });
      await opens(join(folder, `all.${ending}`), FileList, 1);
    }
  });

  test("shards: one, several and commands", async () => {
    const folder = await folderOf({ "s-00.tar": tar(2), "s-01.tar": tar(3), "t.TAR": tar(1), "x.parquet": null });
    await opens(join(folder, "s-00.tar"), WebDataset, 2);
    await opens(join(folder, "s-{00..01}.tar"), WebDataset, 5);
    await opens([join(folder, "s-00.tar"), join(folder, "t.TAR")], WebDataset, 3);
    await opens(`pipe:cat '${join(folder, "s-00.tar")}'`, WebDataset, 7, { length: 7 });
    await refused(`pipe:cat '${join(folder, "s-00.tar")}'`, /how many images/, "DataOptionError");
    await opens(join(folder, "x.parquet"), ParquetImages, 13, { shuffleBuffer: 5 });
    await opens([join(folder, "x.parquet"), join(folder, "x.parquet")], ParquetImages, 26);
    await refused(join(folder, "none.tar"), /none\.tar/, "ShardError");
    await refused([join(folder, "s-00.tar"), join(folder, "x.parquet")], /several paths must all be/, "UnknownDataError");
    await refused([], /several paths/, "UnknownDataError");
  });

  test("what is none of them is refused with the forms that are known", async () => {
    const folder = await folderOf({ "1.PNG": "", "notes.doc": "" });
    const forms = /\nImages can be:\n.*FILE\.txt.*'NAME-\{000\.\.099\}\.tar'.*FILE\.parquet.*folder: list: tar: parquet: cifar10:/s;
    await refused(join(folder, "1.PNG"), /is one image; give the folder/, "UnknownDataError");
    await refused(join(folder, "notes.doc"), /notes\.doc is none of the known kinds/, "UnknownDataError");
    await refused(join(folder, "none"), /there is no folder or file .*none\n/, "UnknownDataError");
    await refused("constructor:x", forms, "UnknownDataError");
  });
});

test("a prefix says what it is", async () => {
  const folder = await folderOf({ "1.png": "", "names.doc": "1.png 3\n", "0.tar": tar(2), "0.parquet": null, "shard.bin": tar(3) });
  await opens(`folder:${folder}`, ImageFolder, 1);
  await opens(`list:${join(folder, "names.doc")}`, FileList, 1);
  await opens(`tar:${folder}`, WebDataset, 2);
  await opens(`tar:${join(folder, "shard.bin")}`, WebDataset, 3);
  await opens(`parquet:${folder}`, ParquetImages, 13);
  await opens(`flowers:${fixturePath("datasets/flowers")}`, Flowers102, 5);
  await refused(`flowers:${folder}`, /Flowers 102/, "DatasetError");
  await refused(`pets:${folder}`, /Pet/, "DatasetError");
});
