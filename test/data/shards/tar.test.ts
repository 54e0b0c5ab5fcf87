import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { ChunkBytes, FileBytes } from "../../../lib/data/shards/byteSource.js";
import { ShardError } from "../../../lib/data/shards/shardError.js";
import { tarMembers } from "../../../lib/data/shards/tar.js";
import { splitName, tarSamples } from "../../../lib/data/shards/tarSamples.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { imageMembers, tarArchive, tarHeader, writeChecksum } from "./tarArchive.js";

interface Expected {
  key: string;
  image: string | null;
  label: number | null;
  sha256: string | null;
}

const expected = readJson<{ tar: Record<string, Expected[]> }>("shards/expected.json").tar;
const folder = temporaryFolder("tar");
const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function* inChunks(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += length) yield bytes.subarray(i, i + length);
}

/** Samples in the form of `expected.json`, read by chunks. */
async function readChunks(bytes: Uint8Array, length: number): Promise<{ samples: Expected[]; skipped: number }> {
  const samples: Expected[] = [];
  const tally = { skipped: 0 };
  const source = new ChunkBytes(inChunks(bytes, length));
  for await (const { name, label, image } of tarSamples(source, "x.tar", (member) => member.read(), tally)) {
    const { key, suffix } = splitName(name)!;
    samples.push({ key, image: suffix, label, sha256: digest(image) });
  }
  return { samples, skipped: tally.skipped };
}

/** The same by headers of a file; the bytes are read from where they are said to be. */
async function readRanges(path: string): Promise<Expected[]> {
  const whole = readFileSync(path);
  const file = await open(path);
  const samples: Expected[] = [];
  const source = new FileBytes(file, whole.length);
  try {
    for await (const { name, label, image } of tarSamples(source, path, ({ offset, size }) => ({ offset, size }), { skipped: 0 })) {
      const { key, suffix } = splitName(name)!;
      samples.push({ key, image: suffix, label, sha256: digest(whole.subarray(image.offset, image.offset + image.size)) });
    }
  } finally {
    await file.close();
  }
  return samples;
}

async function names(bytes: Uint8Array): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, size } of tarMembers(new ChunkBytes(inChunks(bytes, 700)), "x.tar")) found.push(`${name} ${size}`);
  return found;
}

async function failure(bytes: Uint8Array): Promise<ShardError> {
  const error = await names(bytes).then(() => null, (reason: unknown) => reason);
  expect(error).toBeInstanceOf(ShardError);
  return error as ShardError;
}

describe("samples are those of Python's webdataset", () => {
  const shards = Object.keys(expected).filter((name) => name.endsWith(".tar"));

  test.each(shards)("%s, as a file and in chunks of any length", async (name) => {
    const wanted = expected[name]!.filter((sample) => sample.image !== null);
    expect(wanted.length).toBeGreaterThan(4);
    expect(await readRanges(fixturePath(`shards/${name}`))).toEqual(wanted);
    const bytes = readFileSync(fixturePath(`shards/${name}`));
    for (const length of [1, 511, 4096, bytes.length]) {
      expect(await readChunks(bytes, length)).toEqual({ samples: wanted, skipped: expected[name]!.length - wanted.length });
    }
  });

  test("the first of two images in a group counts, suffixes are compared without regard to case", () => {
    expect(expected["gnu.tar"]!.filter(({ image }) => image === "png").map(({ key }) => key)).toContain("e");
    expect(splitName("a/b.c/d.E.JPG")).toEqual({ key: "a/b.c/d", suffix: "e.jpg" });
    expect(splitName("__x__.jpg")).toEqual({ key: "__x__", suffix: "jpg" });
    expect([".jpg", "jpg", "a.b/jpg", "__x__/1.jpg"].map(splitName)).toEqual([null, null, null, null]);
  });
});

describe("archives", () => {
  test("sizes in base 256, types without data, a V7 folder, sparse files and unknown types", async () => {
    const sparse = tarHeader({ name: "sparse.jpg", type: "S", size: 3 });
    sparse[482] = 1;
    writeChecksum(sparse);
    const archive = Buffer.concat([
      tarArchive([
        { name: "a.jpg", data: "abc", base256: true },
        { name: "folder/", type: "\0" },
        { name: "link.jpg", type: "2", size: 99 },
        { name: "old.jpg", data: "x", type: "\0" },
        { name: "device", type: "3", size: 7 },
        { name: "volume", data: "who knows", type: "V" },
        { name: "contiguous.png", data: "12345", type: "7" },
      ], false),
      sparse, Buffer.alloc(512), Buffer.alloc(512, "d"),
      tarArchive([{ name: "last.jpg", data: Buffer.alloc(512) }]),
    ]);
    expect(await names(archive)).toEqual(["a.jpg 3", "old.jpg 1", "contiguous.png 5", "last.jpg 512"]);
  });

  test("PAX gives path and size of the next member alone", async () => {
    const records = "22 path=größe/x.jpg\n9 size=4\n"; // lengths in bytes
    const archive = tarArchive([
      { name: "pax", type: "x", data: records }, { name: "short", data: "1234", size: 0 },
      { name: "global", type: "g", data: "11 path=no\n" }, { name: "b.jpg", data: "z" },
    ]);
    expect(await names(archive)).toEqual(["größe/x.jpg 4", "b.jpg 1"]);
    const bad = await failure(tarArchive([{ name: "pax", type: "x", data: "99 path=x\n" }]));
    expect(bad.message).toMatch(/damaged at byte 0: a PAX header/);
  });

  test("ends where GNU tar ends it: at zeros, or between two members", async () => {
    const one = tarArchive([{ name: "a.jpg", data: "a" }]), two = tarArchive([{ name: "b.jpg", data: "b" }]);
    expect(await names(Buffer.concat([one, two]))).toEqual(["a.jpg 1"]);
    expect(await names(one.subarray(0, 1024))).toEqual(["a.jpg 1"]);
  });

  test("names that are not UTF-8 stay different", async () => {
    const member = (byte: number): Buffer => {
      const archive = tarArchive([{ name: "?.jpg" }], false);
      archive[0] = byte;
      writeChecksum(archive);
      return archive;
    };
    expect(await names(Buffer.concat([member(0xe4), member(0xf6)]))).toEqual(["ä.jpg 0", "ö.jpg 0"]);
  });
});

describe("damaged archives name the shard, the place and what to do", () => {
  const archive = tarArchive([{ name: "a.jpg", data: Buffer.alloc(600) }, { name: "b.jpg", data: Buffer.alloc(600) }]);

  test("cut off in the data or in a header", async () => {
    for (const length of [1536 + 100, 1536 + 512, 1536 + 512 + 599, 1536 + 512 + 1000]) {
      const error = await failure(archive.subarray(0, length));
      expect(error).toMatchObject({ shard: "x.tar", offset: 1536 });
      expect(error.message).toBe("x.tar: cut off in the member at byte 1536; fetch or write the shard again, or leave it out of the list");
    }
    expect((await failure(Buffer.alloc(0))).message).toMatch(/^x\.tar: empty;/);
    expect((await failure(archive.subarray(0, 100))).message).toMatch(/cut off in the member at byte 0/);
  });

  test("a file's end is noticed without reading the data", async () => {
    const path = join(folder, "short.tar");
    writeFileSync(path, archive.subarray(0, 2048 + 10));
    await expect(readRanges(path)).rejects
      .toThrow(/short\.tar: cut off: b\.jpg says 600 bytes from byte 2048 on, but the file ends at byte 2058/);
  });

  test("a wrong checksum and garbage between members", async () => {
    const flipped = Buffer.from(archive);
    flipped[1536 + 3]! ^= 1;
    const error = await failure(flipped);
    expect(error.offset).toBe(1536);
    expect(error.message).toMatch(/damaged at byte 1536: no header of a member, or its checksum is wrong; fetch/);
    flipped[3]! ^= 1;
    expect((await failure(flipped)).message).toMatch(/not a tar archive; its first block is no header/);
  });

  test.each([
    [[0x1f, 0x8b], /gzip: let its name end in .tar.gz/], [[0x28, 0xb5, 0x2f, 0xfd], /zstd: give a command, "pipe:zstd -dc FILE"/],
    [[0x42, 0x5a, 0x68], /bzip2/], [[0xfd, 0x37, 0x7a, 0x58, 0x5a], /xz/],
  ])("compressed data is told apart (%#)", async (magic, message) => {
    expect((await failure(Buffer.concat([Buffer.from(magic), Buffer.alloc(600, 7)]))).message).toMatch(message);
  });

  test("sizes beyond sense are refused before memory is taken", async () => {
    const huge = (member: Parameters<typeof tarHeader>[0]): Buffer => Buffer.concat([tarHeader(member), Buffer.alloc(1024)]);
    const longName = await failure(huge({ name: "x", type: "L", size: 2 ** 30 }));
    expect(longName.message).toMatch(/type L says 1073741824 bytes, more than 1048576/);
    const bad = tarHeader({ name: "a.jpg" });
    bad.fill(0xff, 124, 136);
    writeChecksum(bad);
    expect((await failure(bad)).message).toMatch(/the size of a member is not a number/);
    const read = async (): Promise<void> => {
      const source = new ChunkBytes(inChunks(huge({ name: "a.jpg", size: 2 ** 34, base256: true }), 512));
      for await (const member of tarMembers(source, "x.tar")) await member.read();
    };
    await expect(read()).rejects.toThrow(/a\.jpg has 17179869184 bytes, more than the 1073741824 that are read into memory/);
  });
});

test("members behind more than 8 GiB are found by seeking", async () => {
  const path = join(folder, "large.tar");
  const size = 9 * 2 ** 30 + 1;
  const handle = openSync(path, "w");
  writeSync(handle, tarHeader({ name: "big.bin", size, base256: true }));
  const behind = 512 + Math.ceil(size / 512) * 512;
  writeSync(handle, tarArchive(imageMembers(3)), 0, undefined, behind);
  closeSync(handle);
  const file = await open(path);
  const found: [string, number][] = [];
  const { size: length } = await file.stat();
  for await (const { name, offset } of tarMembers(new FileBytes(file, length), path)) found.push([name, offset]);
  await file.close();
  expect(found.slice(0, 2)).toEqual([["big.bin", 512], ["0.jpg", behind + 512]]);
  expect(found).toHaveLength(7);
  truncateSync(path);
});
