import { chmod, mkdir, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { ImageFolder, ImageFolderError, TooFewImagesError, readImage, requireImages } from "../../lib/data/index.js";
import { scanFolder } from "../../lib/data/folder/scanFolder.js";
import { png, synthetic, withFolder } from "./pixels.js";

const names = (folder: ImageFolder): string[] => Array.from({ length: folder.length }, (_, i) => folder.name(i));
const labels = (folder: ImageFolder): (number | null)[] => Array.from({ length: folder.length }, (_, i) => folder.label(i));

describe("folders", () => {
  test("with classes are listed in torchvision's order", () =>
    withFolder(
      {
        "b/2.png": "", "b/10.PNG": "", "b/sub/x.jpeg": "", "b-c/1.JPG": "", "a b/1.webp": "", "a/z/1.bmp": "", "a/y.tiff": "",
        "b/notes.txt": "",
      },
      async (folder) => {
        const images = await ImageFolder.open(folder);
        expect(images.classes).toEqual(["a", "a b", "b", "b-c"]);
        expect(names(images)).toEqual(["a/y.tiff", "a/z/1.bmp", "a b/1.webp", "b/10.PNG", "b/2.png", "b/sub/x.jpeg", "b-c/1.JPG"]);
        expect(labels(images)).toEqual([0, 0, 1, 2, 2, 2, 3]);
        expect(images.image(0)).toBe(join(folder, "a/y.tiff"));
      }));

  test("with train/ inside are used from there", () =>
    withFolder({ "train/x/1.png": "", "val/x/2.png": "", "val/y/3.png": "" }, async (folder) => {
      expect(names(await ImageFolder.open(folder))).toEqual(["x/1.png"]);
      const val = await ImageFolder.open(folder, { split: "val" });
      expect([val.classes, names(val)]).toEqual([["x", "y"], ["x/2.png", "y/3.png"]]);
    }));

  test("without classes have no labels", () =>
    withFolder({ "1.png": "", "more/deep/2.png": "" }, async (folder) => {
      const images = await ImageFolder.open(folder);
      expect([images.classes, names(images), labels(images)]).toEqual([[], ["1.png", "more/deep/2.png"], [null, null]]);
    }));

  test("sort by code point, whatever the script", () =>
    withFolder({ "ä.png": "", "z.png": "", "Z.png": "", "日本.png": "", "\u{1f600}.png": "", "\uffee.png": "" }, async (folder) => {
      expect(names(await ImageFolder.open(folder))).toEqual(["Z.png", "z.png", "ä.png", "日本.png", "\uffee.png", "\u{1f600}.png"]);
    }));

  // Other systems refuse such names.
  (process.platform === "linux" ? test : test.skip)("may hold names that are not UTF-8", async () => {
    const image = synthetic(2);
    const bytes = await png(image);
    await withFolder({ "a/1.png": bytes, "a/\ufffd.png": bytes, "a/note": "" }, async (folder) => {
      const odd = (name: string): Buffer => Buffer.concat([Buffer.from(`${folder}/a/`), Buffer.from(name, "latin1")]);
      for (const name of ["\xfcber.PNG", "\xfc.txt"]) await writeFile(odd(name), bytes);
      await symlink(join(folder, "a/1.png"), odd("\xe4.jpg"));
      const images = await ImageFolder.open(folder);
      expect(names(images)).toEqual(["a/1.png", "a/\ufffd.jpg", "a/\ufffd.png", "a/\ufffdber.PNG"]);
      for (let i = 0; i < images.length; i++) expect(await readImage(images, i)).toEqual(image);
    });
  });

  test("are the same whether listed at once or in parts", async () => {
    const files = Object.fromEntries(Array.from({ length: 1500 }, (_, i) => [`${i % 3 === 0 ? "a" : "b/c"}/${(i * 7) % 1500}.png`, ""]));
    await withFolder(files, async (folder) => {
      const listed = async (bytesAtOnce?: bigint): Promise<string[]> =>
        (await scanFolder(folder, bytesAtOnce)).folders.flatMap(({ path, images }) =>
          Array.from({ length: images.length }, (_, i) => `${path}/${images.at(i)}`));
      const expected = Object.keys(files).sort();
      expect(await listed()).toEqual(expected);
      expect(await listed(0n)).toEqual(expected);
    });
  });

  test("may link to files and folders, even to themselves", () =>
    withFolder({ "real/1.png": "", "elsewhere.txt": "" }, async (folder) => {
      await symlink(join(folder, "real"), join(folder, "linked"));
      await symlink(folder, join(folder, "real", "round"));
      await symlink(join(folder, "real", "1.png"), join(folder, "real", "2.png"));
      expect(names(await ImageFolder.open(folder))).toEqual(["linked/1.png", "linked/2.png", "real/1.png", "real/2.png"]);
    }));

  test("are read through readImage; a file that has vanished is named", async () => {
    const image = synthetic(1);
    await withFolder({ "a/1.png": await png(image) }, async (folder) => {
      const images = await ImageFolder.open(folder);
      expect(await readImage(images, 0)).toEqual(image);
      await unlink(images.image(0) as string);
      await expect(readImage(images, 0)).rejects.toThrow(/a\/1\.png.*ENOENT/);
      expect(() => images.name(1)).toThrow(/no image 1/);
    });
  });
});

describe("folders that cannot be used", () => {
  test("missing, a file, empty, unreadable", () =>
    withFolder({ "file.png": "", "empty/readme.txt": "" }, async (folder) => {
      const opening = (path: string): Promise<ImageFolder> => ImageFolder.open(join(folder, path));
      await expect(opening("missing")).rejects.toThrow(ImageFolderError);
      await expect(opening("missing")).rejects.toThrow(/no folder .*missing/);
      await expect(opening("file.png")).rejects.toThrow(/is a file/);
      await expect(opening("empty")).rejects.toThrow(/no images in .*\.jpg/);
      await mkdir(join(folder, "locked"));
      await chmod(join(folder, "locked"), 0);
      // root may read everything
      if (process.getuid?.() !== 0) await expect(opening("locked")).rejects.toThrow(/cannot read/);
      await chmod(join(folder, "locked"), 0o700);
    }));

  test("fewer images than a batch", () =>
    withFolder({ "1.png": "", "2.png": "" }, async (folder) => {
      const images = await ImageFolder.open(folder);
      requireImages(images, 2);
      expect(() => requireImages(images, 3)).toThrow(TooFewImagesError);
      expect(() => requireImages(images, 3)).toThrow(/2 images.*batch of 3.*--batch-size/);
    }));
});
