import { cp, mkdir, readFile, readdir, rename, rm, stat, symlink, unlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { indexFile, indexOf, keepFolderIndex, readFolderIndex, type FolderIndex } from "../../lib/data/folder/folderIndex.js";
import { ImageFolder } from "../../lib/data/folder/imageFolder.js";
import { PackedStrings } from "../../lib/data/folder/packedStrings.js";
import { scanFolder } from "../../lib/data/folder/scanFolder.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const temporary = temporaryFolder("index");
let made = 0;

/** A folder of images with links, and a place for its index. */
async function dataset(): Promise<{ root: string; outside: string; cache: string }> {
  const base = join(temporary, String(made++));
  const [root, outside] = [join(base, "data"), join(base, "outside")];
  for (const folder of [join(root, "a", "deep", "er"), join(root, "ä b"), join(root, "empty"), join(outside, "x")]) {
    await mkdir(folder, { recursive: true });
  }
  for (const file of ["a/1.png", "a/2.JPG", "a/deep/er/3.webp", "ä b/日本.png", "a/notes.txt"]) await writeFile(join(root, file), "");
  await writeFile(join(outside, "x", "4.png"), "");
  await symlink(join(outside, "x"), join(root, "linked"));
  await symlink(join(outside, "later"), join(root, "broken"));
  await symlink(root, join(root, "a", "round"));
  return { root, outside, cache: join(base, "cache") };
}

/** Scans as if some seconds after the last change, and keeps what was found. */
async function scanAndKeep(root: string, cache: string): Promise<FolderIndex> {
  const scan = await scanFolder(root);
  const index = indexOf(scan);
  await keepFolderIndex(root, cache, { ...scan, began: scan.began + 10_000 }, index, true);
  // Longer than the grain of the clock, so that the next change has another time.
  await sleep(30);
  return index;
}

const strings = (packed: PackedStrings): string[] => Array.from({ length: packed.length }, (_, i) => packed.at(i));
const plain = (index: FolderIndex | null) =>
  index && { folders: strings(index.folders), counts: [...index.counts], names: strings(index.names) };

describe("the index of a folder", () => {
  test("gives what the scan found, by every way to the folder", async () => {
    const { root, outside, cache } = await dataset();
    expect(await readFolderIndex(root, cache)).toBeNull();
    const index = await scanAndKeep(root, cache);
    expect(plain(index)).toEqual({
      folders: ["", "a", "a/deep", "a/deep/er", "a/round", "empty", "linked", "ä b"],
      counts: [0, 2, 0, 1, 0, 0, 1, 1],
      names: ["1.png", "2.JPG", "3.webp", "4.png", "日本.png"],
    });
    expect(plain(await readFolderIndex(root, cache))).toEqual(plain(index));
    await symlink(root, join(outside, "way"));
    expect(plain(await readFolderIndex(join(outside, "way"), cache))).toEqual(plain(index));
  });

  test("holds while only the contents of files change", async () => {
    const { root, cache } = await dataset();
    const index = await scanAndKeep(root, cache);
    await writeFile(join(root, "a/1.png"), "other");
    expect(plain(await readFolderIndex(root, cache))).toEqual(plain(index));
  });

  const changes: [string, (root: string, outside: string) => Promise<unknown>][] = [
    ["a new image", (root) => writeFile(join(root, "a/deep/er/new.png"), "")],
    ["a new image in a folder that had none", (root) => writeFile(join(root, "empty/new.png"), "")],
    ["a removed image", (root) => unlink(join(root, "a/1.png"))],
    ["a renamed image", (root) => rename(join(root, "a/1.png"), join(root, "a/0.png"))],
    ["a new folder", (root) => mkdir(join(root, "a/deep/new"))],
    ["a removed folder", (root) => rm(join(root, "ä b"), { recursive: true })],
    ["a new image behind a link", (_, outside) => writeFile(join(outside, "x/5.png"), "")],
    ["another folder in the place of a link's target, with the same time", async (_, outside) => {
      const { atime, mtime } = await stat(join(outside, "x"));
      await cp(join(outside, "x"), join(outside, "y"), { recursive: true });
      await writeFile(join(outside, "y/5.png"), "");
      await rename(join(outside, "x"), join(outside, "z"));
      await rename(join(outside, "y"), join(outside, "x"));
      await utimes(join(outside, "x"), atime, mtime);
    }],
    ["a change whose time was set back", async (root) => {
      const { atime, mtime } = await stat(join(root, "a"));
      await writeFile(join(root, "a/new.png"), "");
      await utimes(join(root, "a"), atime, mtime);
    }],
    ["a link that leads elsewhere", async (root, outside) => {
      await unlink(join(root, "linked"));
      await symlink(outside, join(root, "linked"));
    }],
    ["a folder where a broken link leads", (_, outside) => mkdir(join(outside, "later"))],
  ];
  test.each(changes)("does not outlive %s", async (_, change) => {
    const { root, outside, cache } = await dataset();
    await scanAndKeep(root, cache);
    expect(await readFolderIndex(root, cache)).not.toBeNull();
    await change(root, outside);
    expect(await readFolderIndex(root, cache)).toBeNull();
    const again = await scanAndKeep(root, cache);
    expect(plain(await readFolderIndex(root, cache))).toEqual(plain(again));
  });

  test("is not kept of a folder that has just changed", async () => {
    const { root, cache } = await dataset();
    const scan = await scanFolder(root);
    await keepFolderIndex(root, cache, scan, indexOf(scan), true);
    expect(await readFolderIndex(root, cache)).toBeNull();
    expect(await readdir(cache).catch(() => "none")).toBe("none");
  });

  test("is ignored when damaged, cut off or of another folder, and written anew", async () => {
    const { root, cache } = await dataset();
    const index = await scanAndKeep(root, cache);
    const file = await indexFile(root, cache);
    const good = await readFile(file);
    for (let i = 0; i < good.length; i += 3) {
      const bad = Buffer.from(good);
      bad[i]! ^= 1 << (i % 8);
      await writeFile(file, bad);
      expect(await readFolderIndex(root, cache)).toBeNull();
      await writeFile(file, good.subarray(0, i));
      expect(await readFolderIndex(root, cache)).toBeNull();
    }
    await scanAndKeep(root, cache);
    expect(plain(await readFolderIndex(root, cache))).toEqual(plain(index));

    const other = await dataset();
    await mkdir(join(other.cache, "folders"), { recursive: true });
    await writeFile(await indexFile(other.root, other.cache), good);
    expect(await readFolderIndex(other.root, other.cache)).toBeNull();
  });

  test("appears whole or not at all, and no error comes of it", async () => {
    const { root, outside, cache } = await dataset();
    await Promise.all([scanAndKeep(root, cache), scanAndKeep(root, cache), scanAndKeep(root, cache)]);
    const left = `${await indexFile(root, cache)}.killed.part`;
    await writeFile(left, "");
    await utimes(left, 0, 0);
    await scanAndKeep(root, cache);
    expect((await readdir(join(cache, "folders"))).length).toBe(1);
    expect(await readFolderIndex(root, cache)).not.toBeNull();

    const file = join(outside, "file");
    await writeFile(file, "");
    await scanAndKeep(root, file);
    expect(await readFolderIndex(root, file)).toBeNull();
  });
});

describe("ImageFolder", () => {
  const before = process.env.MOCO_CACHE;
  const cache = join(temporary, "user-cache");
  beforeAll(() => {
    process.env.MOCO_CACHE = cache;
  });
  afterAll(() => {
    if (before === undefined) delete process.env.MOCO_CACHE;
    else process.env.MOCO_CACHE = before;
  });

  test("keeps an index where asked to, and follows changes", async () => {
    const { root } = await dataset();
    const kept = async (): Promise<number> => (await readdir(join(cache, "folders")).catch(() => [])).length;
    await sleep(2100); // younger folders are not trusted
    const names = async (options = {}): Promise<string[]> => {
      const images = await ImageFolder.open(root, options);
      return Array.from({ length: images.length }, (_, i) => `${images.label(i)} ${images.name(i)}`);
    };
    const first = await names();
    expect(first).toEqual(["0 a/1.png", "0 a/2.JPG", "0 a/deep/er/3.webp", "1 linked/4.png", "2 ä b/日本.png"]);
    expect(await names({ cache: false })).toEqual(first);
    expect(await kept()).toBe(0); // too small to be worth it
    expect(await names({ cache: true })).toEqual(first);
    expect(await kept()).toBe(1);
    expect(await names()).toEqual(first);
    // That the index is what is read shows when it lies.
    const file = await indexFile(root, cache);
    const index = (await readFolderIndex(root, cache))!;
    const scan = await scanFolder(root);
    index.counts[1]! -= 1;
    await keepFolderIndex(root, cache, scan, { ...index, names: PackedStrings.of(strings(index.names).slice(1)) }, true);
    expect(await names()).toHaveLength(first.length - 1);
    expect(await names({ cache: false })).toEqual(first);
    await writeFile(join(root, "a", "0.png"), "");
    expect(await names()).toEqual(["0 a/0.png", ...first]);
    await rm(file);
  });
});
