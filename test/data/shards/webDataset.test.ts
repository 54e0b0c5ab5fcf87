import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { DataOptionError } from "../../../lib/data/errors.js";
import { isFileRange, type ImageInput } from "../../../lib/data/imageInput.js";
import { ImagePool } from "../../../lib/data/imagePool.js";
import type { ImageStream, StreamRequest, StreamedImage } from "../../../lib/data/imageSource.js";
import { ShardError } from "../../../lib/data/shards/shardError.js";
import { WebDataset, type WebDatasetOptions } from "../../../lib/data/shards/webDataset.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { imageMembers, tarArchive } from "./tarArchive.js";

const folder = temporaryFolder("webdataset");
const indexFolder = join(folder, "index");
const request: StreamRequest = { seed: 1, epoch: 0, rank: 0, worldSize: 1 };
const open = (urls: string | readonly string[], options: WebDatasetOptions = {}): Promise<WebDataset> =>
  WebDataset.open(urls, { indexFolder, ...options });

async function imagesOf(stream: ImageStream, changes: Partial<StreamRequest> = {}): Promise<StreamedImage[]> {
  const images: StreamedImage[] = [];
  for await (const image of stream.stream({ ...request, ...changes })) images.push(image);
  return images;
}

const namesOf = async (stream: ImageStream, changes: Partial<StreamRequest> = {}): Promise<string[]> =>
  (await imagesOf(stream, changes)).map(({ name }) => name);

async function bytesOf(image: ImageInput | Promise<ImageInput>): Promise<Uint8Array> {
  const input = await image;
  if (input instanceof Uint8Array) return input;
  if (typeof input !== "string" && isFileRange(input)) return readFileSync(input.path).subarray(input.offset, input.offset + input.length);
  throw new TypeError("neither bytes nor a part of a file");
}

async function digestsOf(stream: ImageStream): Promise<(string | number | null)[][]> {
  const rows = [];
  for (const { label, image } of await imagesOf(stream)) {
    rows.push([createHash("sha256").update(await bytesOf(image)).digest("hex"), label]);
  }
  return rows;
}

/** A tar file in the tests' folder. */
function shard(name: string, count: number, bytes = 10): string {
  const path = join(folder, name);
  writeFileSync(path, tarArchive(imageMembers(count, bytes, `${name.replace(/\W/g, "-")}/`)));
  return path;
}

async function until(true_: () => boolean, seconds = 5): Promise<void> {
  for (const start = Date.now(); !true_();) {
    if (Date.now() - start > seconds * 1000) throw new Error("it did not come true");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Whether a process runs; one that has ended and nobody has asked about does not. */
function runs(id: number): boolean {
  try {
    process.kill(id, 0);
  } catch {
    return false;
  }
  const status = `/proc/${id}/status`;
  return !existsSync(status) || !/^State:\s+Z/m.test(readFileSync(status, "utf8"));
}

interface Expected {
  sha256: string;
  label: number | null;
  image: string | null;
}

const expected = readJson<{ tar: Record<string, Expected[]> }>("shards/expected.json").tar;
const written = ["written-000.tar", "written-001.tar", "written-002.tar"];
const rowsOf = (names: readonly string[]): (string | number | null)[][] =>
  names.flatMap((name) => expected[name]!.filter(({ image }) => image).map(({ sha256, label }) => [sha256, label]));

describe("plain tar files", () => {
  test("give Python's webdataset's samples in its order, as parts of the files", async () => {
    const images = await open(fixturePath("shards/written-{000..002}.tar"), { shuffle: false });
    expect(images.length).toBe(21);
    expect(images.classes).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    expect(await digestsOf(images)).toEqual(rowsOf(written));
    const [first] = await imagesOf(images);
    expect(first).toMatchObject({ id: 0, name: "written-000.tar/00000000.jpg", image: { path: fixturePath("shards/written-000.tar") } });
  });

  test("groups without an image are counted; labels that are no numbers give none, and then there are no classes", async () => {
    const images = await open(fixturePath("shards/pax.tar"), { shuffle: false });
    expect(images.skipped).toBe(expected["pax.tar"]!.filter(({ image }) => !image).length);
    expect(images.classes).toBeUndefined();
    expect(await digestsOf(images)).toEqual(rowsOf(["pax.tar"]));
    expect((await namesOf(images)).some((name) => name === "pax.tar/größe/日本語 🙂.jpeg")).toBe(true);
  });

  test("a folder stands for its tar files by code point, :: divides, a list is a list", async () => {
    const inside = join(folder, "many");
    mkdirSync(inside);
    for (const name of ["b.tar", "a.tar", "B.TAR"]) copyFileSync(fixturePath("shards/written-001.tar"), join(inside, name));
    writeFileSync(join(inside, "readme.txt"), "");
    const order = async (urls: string | string[]): Promise<string[]> =>
      [...new Set((await namesOf(await open(urls, { shuffle: false }))).map((name) => name.split("/")[0]!))];
    expect(await order(inside)).toEqual(["B.TAR", "a.tar", "b.tar"]);
    expect(await order(`${inside}/b.tar::${inside}/a.tar`)).toEqual(["b.tar", "a.tar"]);
    expect(await order([`${inside}/{a,b}.tar`, `file:${inside}/B.TAR`])).toEqual(["a.tar", "b.tar", "B.TAR"]);
    copyFileSync(join(inside, "a.tar"), join(folder, "{x,y}.tar"));
    expect(await order(join(folder, "{x,y}.tar"))).toEqual(["{x,y}.tar"]);
  });

  test("every epoch has every image once, over any number of ranks", async () => {
    const images = await open(fixturePath("shards/written-{000..002}.tar"));
    const all = (await namesOf(images)).sort();
    expect(new Set(all).size).toBe(21);
    for (const worldSize of [2, 4]) {
      const ranks = await Promise.all(Array.from({ length: worldSize }, (_, rank) => namesOf(images, { epoch: 5, rank, worldSize })));
      expect(ranks.flat().sort()).toEqual(all);
    }
  });

  test("headers are read once: the index is used until a file changes", async () => {
    const index = join(folder, "own index");
    const [one, two] = [shard("one.tar", 4), shard("two.tar", 3)];
    utimesSync(two, 1e9, 1e9);
    const first = await WebDataset.open([one, two], { indexFolder: index });
    const order = await namesOf(first);
    expect(readdirSync(index)).toHaveLength(1);
    writeFileSync(two, Buffer.alloc(statSync(two).size)); // same length and time: only reading it again would notice
    utimesSync(two, 1e9, 1e9);
    const again = await WebDataset.open([one, two], { indexFolder: index });
    expect(await namesOf(again)).toEqual(order);

    shard("two.tar", 5);
    await expect(namesOf(again)).rejects.toThrow(/two\.tar: changed while it was in use; start again/);
    const changed = await WebDataset.open([one, two], { indexFolder: index });
    expect(changed.length).toBe(9);
    expect(readdirSync(index)).toHaveLength(1);
    // An index that is lost or damaged in use costs time, not the run.
    const changedOrder = await namesOf(changed);
    writeFileSync(join(index, readdirSync(index)[0]!), "nonsense");
    expect(await namesOf(changed)).toEqual(changedOrder);
    expect((await WebDataset.open([one, two], { indexFolder: index })).length).toBe(9);
    rmSync(index, { recursive: true });
    expect(await namesOf(changed)).toEqual(changedOrder);
  });

  test("without a folder for the index it stays in memory", async () => {
    writeFileSync(join(folder, "a file"), "");
    const images = await WebDataset.open(shard("held.tar", 6), { indexFolder: join(folder, "a file", "index") });
    expect((await namesOf(images)).sort()).toHaveLength(6);
    expect(images.classes).toEqual(["0", "1", "2"]);
  });

  test("what cannot be used is said with its name and a remedy", async () => {
    const cut = shard("cut.tar", 4, 2000);
    writeFileSync(cut, readFileSync(cut).subarray(0, 5000));
    await expect(open(cut)).rejects.toThrow(/cut\.tar: cut off: .*1\.jpg says 2000 bytes .* ends at byte 5000; fetch or write the shard/);
    const text = join(folder, "texts.tar");
    writeFileSync(text, tarArchive([{ name: "a.txt", data: "a" }, { name: "b.txt" }]));
    await expect(open(text)).rejects.toThrow(/texts\.tar: no image in it \(2 groups of members without one\); members whose names end in/);
    await expect(open(join(folder, "nothing.tar"))).rejects.toThrow(/nothing\.tar: there is no such file; check the path/);
    mkdirSync(join(folder, "empty"));
    await expect(open(join(folder, "empty"))).rejects.toThrow(/empty: the folder holds no file that ends in \.tar or \.tar\.gz or \.tgz/);
    await expect(open("https://example.org/{0..1}.tar")).rejects
      .toThrow('give a command that fetches it, such as "pipe:curl -sfL https://example.org/0.tar"');
    await expect(open([])).rejects.toThrow(DataOptionError);
    await expect(open(cut)).rejects.toBeInstanceOf(ShardError);
    expect(readdirSync(indexFolder).filter((name) => !name.endsWith(".index"))).toEqual([]);
    if (process.getuid?.() !== 0) {
      chmodSync(text, 0);
      await expect(open(text)).rejects.toThrow(/texts\.tar: cannot be read: .*permission/);
    }
  });
});

describe("compressed files and commands", () => {
  const all = fixturePath("shards/written-{000..002}.tar");

  test("gzip and commands give the same samples as bytes", async () => {
    const zipped = await open(fixturePath("shards/written-003.tar.gz"), { shuffle: false, length: 4 });
    expect(await digestsOf(zipped)).toEqual(rowsOf(["written-003.tar.gz"]));
    const commands = await open(`pipe:cat ${all}`, { shuffle: false, length: 21 });
    expect(commands.shards.map(({ name }) => name)).toEqual(written.map((name) => `pipe:cat ${fixturePath(`shards/${name}`)}`));
    expect(await digestsOf(commands)).toEqual(rowsOf(written));
    const unzipped = `pipe:gunzip -c < ${fixturePath("shards/written-003.tar.gz")}`;
    const mixed = await open([fixturePath("shards/written-001.tar"), unzipped], { length: 9 });
    expect((await digestsOf(mixed)).sort()).toEqual(rowsOf(["written-001.tar", "written-003.tar.gz"]).sort());
  });

  test("the order is that of every request, over ranks too", async () => {
    const images = await open(`pipe:cat ${all}`, { length: 21 });
    const order = await namesOf(images);
    expect(await namesOf(images)).toEqual(order);
    expect(await namesOf(images, { epoch: 1 })).not.toEqual(order);
    for (const worldSize of [2, 5]) {
      const ranks = await Promise.all(Array.from({ length: worldSize }, (_, rank) => namesOf(images, { rank, worldSize })));
      expect(ranks.flat().sort()).toEqual([...order].sort());
    }
  });

  test("the number of images has to be said", async () => {
    await expect(open(`pipe:cat ${all}`)).rejects
      .toThrow(/how many images there are is known only when pipe:cat .*000\.tar is read.*--images N/);
    await expect(open(fixturePath("shards/written-003.tar.gz"))).rejects.toThrow(DataOptionError);
  });

  test("a command that fails is named with its exit code and what it wrote", async () => {
    const path = shard("whole.tar", 3);
    const failing = (command: string): Promise<string[]> =>
      open(`pipe:${command}`, { length: 3, shuffle: false }).then((images) => namesOf(images));
    const command = `cat ${path}; echo one >&2; echo the disk is full >&2; exit 3`;
    await expect(failing(command)).rejects.toThrow(
      `pipe:${command}: the command failed with exit code 3 and wrote to stderr:\n  one\n  the disk is full\nRun it by hand to see more.`,
    );
    await expect(failing(`head -c 1300 ${path}; exit 4`)).rejects.toThrow(/exit code 4 and wrote nothing to stderr/);
    await expect(failing("no-such-program-here")).rejects
      .toThrow(/failed with exit code 127 and wrote to stderr:\n.*no-such-program-here.*not found/);
    await expect(failing("kill -9 $$")).rejects.toThrow(/the command was ended by SIGKILL/);
    await expect(failing(`head -c 700 ${path}`)).rejects.toThrow(/^pipe:head -c 700 .*: cut off in the member at byte 0;/);
    await expect(failing("true")).rejects.toThrow(/^pipe:true: empty;/);
    await expect(failing(`yes`)).rejects.toThrow(/^pipe:yes: not a tar archive/);
    await expect(failing("true")).rejects.toBeInstanceOf(ShardError);
  });

  test("what a command writes after the archive's end is read, so that it does not fail", async () => {
    const path = shard("trailing.tar", 2);
    const images = await open(`pipe:set -e; cat ${path}; head -c 3000000 /dev/zero`, { length: 2 });
    expect(await namesOf(images)).toHaveLength(2);
  });

  test("a truncated gzip file is named", async () => {
    const path = join(folder, "short.tar.gz");
    writeFileSync(path, readFileSync(fixturePath("shards/written-003.tar.gz")).subarray(0, 600));
    const reading = async (): Promise<string[]> => namesOf(await open(path, { length: 4 }));
    await expect(reading()).rejects.toThrow(/short\.tar\.gz: cannot be unzipped: unexpected end of file; fetch/);
    writeFileSync(path, "not gzip at all");
    await expect(reading()).rejects.toThrow(/short\.tar\.gz: cannot be unzipped: incorrect header check/);
  });

  test("without sh it says so", async () => {
    const path = process.env.PATH;
    process.env.PATH = join(folder, "empty");
    try {
      const images = await open("pipe:true", { length: 1 });
      await expect(namesOf(images)).rejects.toThrow(/^pipe:true: cannot start sh: .*ENOENT; install a POSIX shell/);
    } finally {
      process.env.PATH = path;
    }
  });

  test("a consumer that stops ends the command and all that it started, even one that says nothing", async () => {
    const path = shard("endless.tar", 3);
    const ids = join(folder, "ids");
    const first = readFileSync(path).subarray(0, -1024);
    writeFileSync(path, first);
    const command = `sh -c 'echo $$ >> ${ids}; sleep 1000' & echo $$ >> ${ids}; while :; do cat ${path}; sleep 0.01; done | cat`;
    const images = await open(`pipe:${command}`, { length: 3, shuffleBuffer: 2 });
    let seen = 0;
    for await (const _image of images.stream(request)) if (++seen === 10) break;
    const started = readFileSync(ids, "utf8").trim().split("\n").map(Number);
    expect(started).toHaveLength(2);
    await until(() => !started.some(runs));

    rmSync(ids);
    const silent = await open(`pipe:echo $$ > ${ids}; cat ${path}; sleep 1000`, { length: 3, shuffle: false });
    const iterator = silent.stream(request)[Symbol.asyncIterator]();
    await iterator.next();
    await iterator.next();
    const waiting = iterator.next().then(() => iterator.next());
    await new Promise((resolve) => setTimeout(resolve, 50));
    await iterator.return!();
    expect((await waiting).done).toBe(true);
    const id = Number(readFileSync(ids, "utf8"));
    await until(() => !runs(id));
  });

  test("the end of the process ends its commands", async () => {
    const ids = join(folder, "left ids");
    const command = `pipe:echo $$ > '${ids}'; cat ${shard("left.tar", 3)}; sleep 1000`;
    const code = `
      import { WebDataset } from ${JSON.stringify(new URL("../../../lib/data/shards/webDataset.js", import.meta.url).href)};
      const images = await WebDataset.open(${JSON.stringify(command)}, { length: 3, shuffle: false });
      for await (const image of images.stream({ seed: 0, epoch: 0, rank: 0, worldSize: 1 })) process.exit(3);`;
    const { status } = spawnSync(process.execPath, ["--input-type=module", "-e", code]);
    expect(status).toBe(3);
    const id = Number(readFileSync(ids, "utf8"));
    await until(() => !runs(id));
  });

  test("a command is held back: it is never far ahead of its reader", async () => {
    const path = shard("big.tar", 200, 50_000);
    const progress = join(folder, "progress");
    const blocks = Math.ceil(statSync(path).size / 51_200);
    const command = `for i in $(seq 0 ${blocks}); do dd if=${path} bs=51200 skip=$i count=1 status=none; echo $i >> ${progress}; done`;
    const images = await open(`pipe:${command}`, { length: 200, shuffleBuffer: 8 });
    let taken = 0, ahead = 0;
    for await (const _image of images.stream(request)) {
      taken++;
      if (taken === 5 || taken === 60) {
        await new Promise((resolve) => setTimeout(resolve, 150));
        const done = readFileSync(progress, "utf8").trim().split("\n").length;
        ahead = Math.max(ahead, done - taken);
      }
      if (taken === 60) break;
    }
    expect(ahead).toBeLessThan(8 + 10); // the buffer, one under way, the pipe's 64 KiB and what Node.js reads at once
    expect(existsSync(progress)).toBe(true);
  });
});

test("parts of a file, a command's bytes and files of their own decode to the same pixels", async () => {
  const files = ["baseline_422.jpg", "gray.jpg", "rgba.png"];
  const path = join(folder, "photos.tar");
  const members = files.map((name) => ({ name, data: readFileSync(fixturePath(`augment/files/${name}`)) }));
  writeFileSync(path, tarArchive(members));
  const pool = new ImagePool(1);
  try {
    for (const url of [path, `pipe:cat ${path}`]) {
      const images = await imagesOf(await open(url, { shuffle: false, length: 3 }));
      expect(images.map(({ name }) => name)).toEqual(files.map((name) => `${url === path ? "photos.tar" : url}/${name}`));
      for (const [i, { image }] of images.entries()) {
        expect(await pool.decode(await image)).toEqual(await pool.decode(fixturePath(`augment/files/${files[i]!}`)));
      }
    }
  } finally {
    pool.close();
  }
});
