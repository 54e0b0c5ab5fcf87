import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { describe, expect, test } from "@jest/globals";
import { FileSource, MemorySource, type ByteSource } from "../../lib/checkpoint/byteSource.js";
import { readChecked } from "../../lib/checkpoint/zip/checkedRead.js";
import { native } from "../../lib/native.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const content = randomBytes(9 * 2 ** 20 + 123); // several chunks of both ways, and a rest
const path = join(temporaryFolder("checked-read"), "content");
writeFileSync(path, content);

const sources: Record<string, () => Promise<ByteSource>> = {
  "a file": () => FileSource.open(path),
  "a file of which nothing but its bytes is known": async () => {
    const file = await FileSource.open(path);
    return { name: file.name, size: file.size, read: file.read.bind(file), close: file.close.bind(file) };
  },
  memory: async () => new MemorySource(path, content),
};

describe.each(Object.keys(sources))("from %s", (kind) => {
  test("all parts are filled, and their CRC is zlib's", async () => {
    const source = await sources[kind]!();
    const target = [new Uint8Array(1), new Uint8Array(9 * 2 ** 20), new Uint8Array(0), new Uint8Array(50)];
    const crc = await readChecked(source, target, 7);
    const expected = content.subarray(7, 7 + 9 * 2 ** 20 + 51);
    expect(Buffer.concat(target).equals(expected)).toBe(true);
    expect(crc).toBe(crc32(expected));
    await source.close();
  });

  test("an end before the target is full is told, with the place", async () => {
    const source = await sources[kind]!();
    await expect(readChecked(source, [new Uint8Array(2000)], content.length - 1500)).rejects.toMatchObject({
      name: "CheckpointError", file: path, offset: content.length, reason: expect.stringMatching(/500 more bytes expected; it is cut short/),
    });
    await source.close();
  });
});

(native.readChecked === undefined ? test.skip : test)("the system's errors reach the caller", async () => {
  await expect(native.readChecked!(-1, new Uint8Array(8), 0, 0)).rejects.toThrow(/bad file descriptor/i);
  expect(() => native.readChecked!(0, new Float32Array(2) as unknown as Uint8Array, 0, 0)).toThrow("expected a Uint8Array to read into");
});
