import { beforeAll, describe, expect, test } from "@jest/globals";
import { MemorySource } from "../../lib/checkpoint/byteSource.js";
import { defaultLimits, MemoryBudget } from "../../lib/checkpoint/limits.js";
import { ZipReader } from "../../lib/checkpoint/zip/zipReader.js";
import { parseBytes, pickle, zipOf } from "./assemble.js";

const CENTRAL = Buffer.from("PK\x01\x02", "latin1");
const LOCAL = Buffer.from("PK\x03\x04", "latin1");
const END = Buffer.from("PK\x05\x06", "latin1");
const END64 = Buffer.from("PK\x06\x06", "latin1");
const DESCRIPTOR = Buffer.from("PK\x07\x08", "latin1");

async function readAll(bytes: Buffer, limits = defaultLimits): Promise<Record<string, string>> {
  const budget = new MemoryBudget(bytes.length);
  const zip = await ZipReader.open(new MemorySource("a.zip", bytes), limits, budget);
  const content: Record<string, string> = {};
  for (const entry of zip.entries.values()) content[entry.name] = (await zip.read(entry, budget)).toString("latin1");
  return content;
}

/** Position of the nth occurrence of a signature. */
function find(bytes: Buffer, signature: Buffer, nth = 0): number {
  let at = -1;
  for (let i = 0; i <= nth; i++) at = bytes.indexOf(signature, at + 1);
  return at;
}

describe("a zip that was written here", () => {
  const entries = { "archive/data.pkl": "one", "archive/data/0": "x".repeat(100_000), "archive/empty": "" };

  test("is read back, whatever zip64 fields it has", async () => {
    // Sizes and positions from 60 bytes, from 1 byte, and none at all in zip64 fields.
    for (const wideFrom of [60, 1, undefined]) expect(await readAll(await zipOf(entries, wideFrom))).toEqual(entries);
  });

  test("has every entry's data at a multiple of 64 bytes", async () => {
    for (const wideFrom of [60, undefined]) {
      const bytes = await zipOf(entries, wideFrom);
      for (let i = 0; i < 3; i++) {
        const header = find(bytes, LOCAL, i);
        expect((header + 30 + bytes.readUInt16LE(header + 26) + bytes.readUInt16LE(header + 28)) % 64).toBe(0);
      }
    }
  });

  test("of no entries is a zip too", async () => {
    expect(await readAll(await zipOf({}))).toEqual({});
  });
});

describe("what is refused", () => {
  let good: Buffer;
  beforeAll(async () => {
    good = await zipOf({ "a/data.pkl": "pickled", "a/data/0": "12345678" });
  });

  const changed = (change: (bytes: Buffer) => unknown): Buffer => {
    const bytes = Buffer.from(good);
    const result = change(bytes);
    return Buffer.isBuffer(result) ? result : bytes;
  };

  test.each<[string, (bytes: Buffer) => unknown, RegExp]>([
    ["bytes behind the end", (b) => Buffer.concat([b, Buffer.of(0)]), /no end-of-directory/],
    ["a missing last byte", (b) => b.subarray(0, -1), /no end-of-directory/],
    ["a missing directory", (b) => b.subarray(0, find(b, CENTRAL)), /no end-of-directory/],
    ["a first byte cut off", (b) => b.subarray(1), /zip64 end record|does not end here/],
    ["another count in one end record", (b) => b.writeUInt16LE(1, find(b, END) + 10), /several parts|end records differ/],
    ["a wrong directory position", (b) => b.writeUInt32LE(7, find(b, END) + 16), /end records differ/],
    ["a wrong zip64 position", (b) => b.writeBigUInt64LE(7n, find(b, END64) + 48), /end records differ/],
    ["a broken zip64 end record", (b) => b.writeUInt8(0, find(b, END64)), /is not one/],
    ["more entries than the directory holds", (b) => {
      b.writeUInt16LE(3, find(b, END) + 8);
      b.writeUInt16LE(3, find(b, END) + 10);
      b.writeBigUInt64LE(3n, find(b, END64) + 24);
      b.writeBigUInt64LE(3n, find(b, END64) + 32);
      return b;
    }, /cannot hold|ends after 2 of 3/],
    ["a name in the directory that its header lacks", (b) => b.write("b", find(b, CENTRAL) + 46), /another name/],
    ["a name that climbs", (b) => b.write("../x/y.pkl", find(b, CENTRAL) + 46), /climbs out/],
    ["an absolute name", (b) => b.write("/", find(b, CENTRAL) + 46), /is absolute/],
    ["a drive letter", (b) => b.write("C:", find(b, CENTRAL) + 46), /is absolute/],
    ["a backslash", (b) => b.write("a\\", find(b, CENTRAL) + 46), /backslash/],
    ["a NUL", (b) => b.write("a\0", find(b, CENTRAL) + 46), /NUL/],
    ["a name that is not UTF-8", (b) => b.writeUInt8(0xff, find(b, CENTRAL) + 46), /not UTF-8/],
    ["an encrypted entry", (b) => b.writeUInt16LE(0x0809, find(b, CENTRAL) + 8), /encrypted/],
    ["unknown flags", (b) => b.writeUInt16LE(0x0828, find(b, CENTRAL) + 8), /unknown flags/],
    ["a compressed entry", (b) => b.writeUInt16LE(8, find(b, CENTRAL) + 10), /compressed/],
    ["a packed size unlike the size", (b) => b.writeUInt32LE(6, find(b, CENTRAL) + 20), /6 bytes become 7/],
    ["an entry beyond the file", (b) => {
      b.writeUInt32LE(0x7fffffff, find(b, CENTRAL) + 20);
      b.writeUInt32LE(0x7fffffff, find(b, CENTRAL) + 24);
      return b;
    }, /beyond the zip directory/],
    ["a zip64 size without its field", (b) => {
      b.writeUInt32LE(0xffffffff, find(b, CENTRAL) + 20);
      b.writeUInt32LE(0xffffffff, find(b, CENTRAL) + 24);
      return b;
    }, /zip64 field is missing/],
    ["overlapping entries", (b) => {
      const at = find(b, CENTRAL, 1) + 42;
      b.writeUInt32LE(b.readUInt32LE(at) - 10, at);
    }, /overlaps|a longer entry/],
    ["two entries on one header", (b) => b.writeUInt32LE(0, find(b, CENTRAL, 1) + 42), /overlaps|a longer entry/],
    ["another signature in a local header", (b) => b.writeUInt8(0, find(b, LOCAL)), /another signature/],
    ["other local flags", (b) => b.writeUInt16LE(0x0800, find(b, LOCAL) + 6), /other flags/],
    ["another local method", (b) => b.writeUInt16LE(8, find(b, LOCAL) + 8), /another compression/],
    ["another local size", (b) => b.writeUInt32LE(8, find(b, LOCAL) + 18), /another CRC-32 or size/],
    ["a local extra field that swallows the data", (b) => b.writeUInt16LE(60_000, find(b, LOCAL) + 28), /a longer entry/],
    ["another size in a descriptor", (b) => b.writeUInt32LE(8, find(b, DESCRIPTOR) + 8), /descriptor/],
    ["another CRC in a descriptor", (b) => b.writeUInt32LE(8, find(b, DESCRIPTOR) + 4), /descriptor/],
    ["a flipped bit in the data", (b) => b.write("q", find(b, Buffer.from("pickled"))), /CRC-32/],
  ])("%s", async (_, change, pattern) => {
    await expect(readAll(changed(change))).rejects.toMatchObject({
      name: "CheckpointError", file: "a.zip", reason: expect.stringMatching(pattern),
    });
  });

  test("a name that occurs twice", async () => {
    const bytes = await zipOf({ "a/data.pkl": "pickled", "a/data.pkm": "pickled" });
    for (const signature of [CENTRAL, LOCAL]) bytes.write("l", find(bytes, signature, 1) + (signature === CENTRAL ? 46 : 30) + 9);
    await expect(readAll(bytes)).rejects.toMatchObject({ reason: expect.stringMatching(/two entries/), entry: "a/data.pkl" });
  });

  test("more entries than the limit", async () => {
    await expect(readAll(good, { ...defaultLimits, zipEntries: 1 })).rejects.toMatchObject({
      reason: expect.stringMatching(/2 entries; the limit is 1/),
    });
  });
});

describe("a checkpoint's folder", () => {
  test.each(["", "archive/", "vit small (1)/", "модель/"])("may be called %j", async (folder) => {
    expect(await parseBytes(await zipOf({ [`${folder}data.pkl`]: pickle("K", 5), [`${folder}byteorder`]: "little" }))).toBe(5);
  });

  test.each<[string, Record<string, string | Buffer>, RegExp]>([
    ["two checkpoints", { "a/data.pkl": pickle("N"), "b/data.pkl": pickle("N") }, /2 checkpoints/],
    ["a big-endian one", { "a/data.pkl": pickle("N"), "a/byteorder": "big" }, /big-endian/],
    ["another byte order", { "a/data.pkl": pickle("N"), "a/byteorder": "middle" }, /neither/],
    ["TorchScript", { "a/data.pkl": pickle("N"), "a/constants.pkl": pickle("N") }, /TorchScript/],
    ["nothing", { "a/x": "" }, /no data\.pkl/],
  ])("%s is refused", async (_, entries, pattern) => {
    const bytes = await zipOf(entries);
    await expect(parseBytes(bytes)).rejects.toMatchObject({ name: "CheckpointError", reason: expect.stringMatching(pattern) });
  });
});

test.each<[string, Buffer, RegExp]>([
  ["nothing", Buffer.alloc(0), /is empty/],
  ["text", Buffer.from("hello"), /neither a zip, a pickle nor a safetensors header/],
  ["a web page", Buffer.from("<!DOCTYPE html>"), /web page/],
  ["a Git LFS pointer", Buffer.from("version https://git-lfs.github.com/spec/v1"), /git lfs pull/],
  ["gzip", Buffer.from([0x1f, 0x8b, 8, 0]), /gzip/],
  ["a tar archive", Buffer.concat([Buffer.alloc(257), Buffer.from("ustar"), Buffer.alloc(250)]), /tar archive/],
  ["another pickle", pickle("N"), /not a PyTorch checkpoint/],
])("a file of %s is recognised", async (_, bytes, pattern) => {
  await expect(parseBytes(bytes)).rejects.toMatchObject({ name: "CheckpointError", reason: expect.stringMatching(pattern) });
});
