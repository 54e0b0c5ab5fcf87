import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { MemorySource, type ByteSource } from "../../lib/checkpoint/byteSource.js";
import { CheckpointError } from "../../lib/checkpoint/error.js";
import { defaultLimits, MemoryBudget } from "../../lib/checkpoint/limits.js";
import { parseCheckpoint } from "../../lib/checkpoint/parse.js";
import { parseSafetensors } from "../../lib/checkpoint/safetensors/parseSafetensors.js";
import { runPython, testPython } from "../support/python.js";
import { parseBytes } from "./assemble.js";

/** A file: the header's length (or another), the header, and `data` bytes. */
function file(header: string | Buffer, data = 4, length?: bigint): Buffer {
  const content = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(content.length), 0);
  return Buffer.concat([prefix, content, Buffer.alloc(data, 1)]);
}

/** A header's entry. */
function entry(fields: string, name = "a"): string {
  return `${JSON.stringify(name)}:{${fields}}`;
}

const GOOD = '"dtype":"U8","shape":[4],"data_offsets":[0,4]';

/** One tensor of the given shape, and so on. */
function shaped(shape: string, offsets = "[0,4]", data = 4, dtype = "U8"): Buffer {
  return file(`{${entry(`"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}`)}}`, data);
}

/** Two tensors of two bytes. */
function two(first: string, second: string): string {
  return `{${[first, second].map((offsets, i) => entry(`"dtype":"U8","shape":[2],"data_offsets":${offsets}`, "ab"[i])).join(",")}}`;
}

interface Case {
  bytes: Buffer;
  reason: RegExp;
  entry?: string | null;
  /** Position of the fault, where there is just one place that it can be. */
  offset?: number;
  /** Python's safetensors reads it. */
  laxer?: boolean;
}

const cases: Record<string, Case> = {
  // The header's length.
  "a header of more than 100 MB": { bytes: file("{}", 0, 100_000_001n), reason: /claims 100000001 bytes; the limit/, offset: 0 },
  "a header of 2^63 bytes": { bytes: file(`{${entry(GOOD)}}`, 4, 2n ** 63n), reason: /header claims more than 4 GiB/ },
  "a header of 2^64 - 1 bytes": { bytes: file('{"a":1}', 0, 2n ** 64n - 1n), reason: /header claims more than 4 GiB/ },
  "a header beyond the file": { bytes: file("{}", 4, 7n), reason: /claims 7 bytes, but 6 follow; the file is cut short/, offset: 0 },
  "a header that the length cuts": { bytes: file(`{${entry(GOOD)}}`, 4, 20n), reason: /ends inside a tensor's field/, entry: "a" },
  "a length of 0": { bytes: file("", 0), reason: /neither a zip, a pickle nor a safetensors/ },
  "a length and nothing else": { bytes: file("", 0, 8n), reason: /neither a zip, a pickle nor a safetensors/ },
  "a length of 1": { bytes: file("{", 0), reason: /has to be a string, not the header's end/, offset: 9 },
  // JSON.
  "no object": { bytes: file("[1,2]", 0), reason: /nor a safetensors header/ },
  "white space before the object": { bytes: file(` {${entry(GOOD)}}`), reason: /nor a safetensors header/, laxer: true },
  "a byte order mark": { bytes: file(`\ufeff{${entry(GOOD)}}`), reason: /nor a safetensors header/ },
  "no UTF-8": { bytes: file(Buffer.from('{"\xff":{}}', "latin1"), 0), reason: /not UTF-8/, offset: 8 },
  "an overlong NUL": { bytes: file(Buffer.from('{"\xc0\x80":{}}', "latin1"), 0), reason: /not UTF-8/ },
  "a surrogate in UTF-8": { bytes: file(Buffer.from('{"\xed\xa0\x80":{}}', "latin1"), 0), reason: /not UTF-8/ },
  "half a surrogate pair": { bytes: file(`{"\\ud800":{${GOOD}}}`), reason: /unpaired surrogate/, offset: 9 },
  "an unknown escape": { bytes: file(`{"\\x41":{${GOOD}}}`), reason: /escape that JSON does not know/, offset: 9 },
  "a short escape": { bytes: file(`{"\\u12":{${GOOD}}}`), reason: /escape that JSON does not know/ },
  "a line feed in a name": { bytes: file(`{"a\nb":{${GOOD}}}`), reason: /control character 10/, offset: 11 },
  "a name without an end": { bytes: file('{"abc', 0), reason: /ends inside a tensor's name/, offset: 9 },
  "a name that ends in a backslash": { bytes: file('{"abc\\', 0), reason: /ends inside a tensor's name/, offset: 9 },
  "a name that is a number": { bytes: file("{1:{}}", 0), reason: /name has to be a string, not "1"/, offset: 9 },
  "an object that does not end": { bytes: file(`{${entry(GOOD)}`), reason: /needs "," or "}" here, not the header's end/ },
  "a comma at the end": { bytes: file(`{${entry(GOOD)},}`), reason: /has to be a string, not "}"/ },
  "no comma": { bytes: file(`{${entry('"dtype":"U8" "shape":[4]')}}`), reason: /needs "," or "}" here, not "\\""/, entry: "a" },
  "no colon": { bytes: file('{"a"{}}', 0), reason: /needs ":" here, not "{"/, offset: 12 },
  "two objects": { bytes: file(`{${entry(GOOD)}}{}`), reason: /"{" follows the header's object/ },
  "a NUL as padding": { bytes: file(`{${entry(GOOD)}}\0`), reason: /byte 0x00 follows the header's object/ },
  "a line feed as padding": { bytes: file(`{${entry(GOOD)}}\n`), reason: /byte 0x0a follows the header's object/, laxer: true },
  "a comment": { bytes: file(`{/* */${entry(GOOD)}}`), reason: /has to be a string, not "\/"/ },
  "lists in lists": { bytes: file(`{"a":${"[".repeat(200_000)}`, 0), reason: /a tensor needs "{" here, not "\["/, entry: "a", offset: 13 },
  "lists in a shape": { bytes: shaped("[".repeat(200_000)), reason: /has to be an integer, not "\["/, entry: "a" },
  "objects in objects": { bytes: file('{"a":'.repeat(100_000), 0), reason: /a field a; expected dtype, shape/, entry: "a" },
  // Names.
  "a name twice": { bytes: file(`{${entry(GOOD)},${entry(GOOD)}}`), reason: /has a twice/, laxer: true },
  "a name twice, once escaped": { bytes: file(`{${entry(GOOD)},"\\u0061":{${GOOD}}}`), reason: /has a twice/, laxer: true },
  "metadata twice": { bytes: file(`{"__metadata__":{},"__metadata__":{},${entry(GOOD)}}`), reason: /has __metadata__ twice/ },
  "a key of the metadata twice": {
    bytes: file(`{"__metadata__":{"x":"1","x":"2"},${entry(GOOD)}}`), reason: /have x twice/, entry: "__metadata__", laxer: true,
  },
  "metadata that are a number": { bytes: file(`{"__metadata__":{"x":1}}`), reason: /metadata's x has to be a string, not "1"/ },
  "metadata inside metadata": { bytes: file(`{"__metadata__":{"x":{}}}`), reason: /metadata's x has to be a string, not "{"/ },
  "metadata that are null": { bytes: file(`{"__metadata__":null,${entry(GOOD)}}`), reason: /metadata needs "{" here/, laxer: true },
  "a tensor named as the metadata": { bytes: file(`{${entry(GOOD, "__metadata__")}}`), reason: /shape has to be a string, not "\["/ },
  // A tensor's fields.
  "a tensor that is null": { bytes: file('{"a":null}', 0), reason: /a tensor needs "{" here, not "n"/, entry: "a", offset: 13 },
  "a tensor that is a list": { bytes: file('{"a":["U8",[4],[0,4]]}'), reason: /needs "{" here, not "\["/, entry: "a", laxer: true },
  "no dtype": { bytes: file(`{${entry('"shape":[4],"data_offsets":[0,4]')}}`), reason: /has no dtype/, entry: "a", offset: 9 },
  "no shape": { bytes: file(`{${entry('"dtype":"U8","data_offsets":[0,4]')}}`), reason: /has no shape/, entry: "a" },
  "no data_offsets": { bytes: file(`{${entry('"dtype":"U8","shape":[4]')}}`), reason: /has no data_offsets/, entry: "a" },
  "no fields": { bytes: file('{"a":{}}', 0), reason: /has no dtype/, entry: "a" },
  "two dtypes": { bytes: file(`{${entry(`"dtype":"U8",${GOOD}`)}}`), reason: /two dtypes/, entry: "a" },
  "two shapes": { bytes: file(`{${entry(`"shape":[4],${GOOD}`)}}`), reason: /two shapes/, entry: "a" },
  "two data_offsets": { bytes: file(`{${entry(`${GOOD},"data_offsets":[0,4]`)}}`), reason: /data_offsets twice/, entry: "a" },
  "an unknown field": { bytes: file(`{${entry(`${GOOD},"strides":[1]`)}}`), reason: /a field strides; expected dtype/, laxer: true },
  "an unknown dtype": { bytes: shaped("[4]", "[0,4]", 4, "F128"), reason: /dtype F128 is unknown; expected one of BOOL, F4/, entry: "a" },
  "a dtype in small letters": { bytes: shaped("[4]", "[0,4]", 4, "u8"), reason: /dtype u8 is unknown/, entry: "a" },
  "a dtype from Object.prototype": { bytes: shaped("[4]", "[0,4]", 4, "__proto__"), reason: /dtype __proto__ is unknown/ },
  "a dtype with terminal escapes": { bytes: shaped("[4]", "[0,4]", 4, "\\u001b[2J"), reason: /dtype "\\u001b\[2J" is unknown/ },
  "a dtype that is a number": { bytes: file('{"a":{"dtype":3}}', 0), reason: /a dtype has to be a string, not "3"/, entry: "a" },
  "half a byte": { bytes: shaped("[8]", "[0,4]", 4, "F4"), reason: /dtype F4 has no tensors here; in Python.*torch\.float32/, laxer: true },
  "six bits": { bytes: shaped("[4]", "[0,3]", 3, "F6_E2M3"), reason: /dtype F6_E2M3 has no tensors here/ },
  "an exponent alone": { bytes: shaped("[4]", "[0,4]", 4, "F8_E8M0"), reason: /dtype F8_E8M0 has no tensors here/, laxer: true },
  // Shapes.
  "a negative size": { bytes: shaped("[-4]"), reason: /is -4; expected an integer from 0/, entry: "a" },
  "two negative sizes": { bytes: shaped("[-2,-2]"), reason: /is -2; expected an integer from 0/ },
  "minus zero": { bytes: shaped("[-0]", "[0,0]", 0), reason: /is -0; expected an integer/ },
  "a fraction": { bytes: shaped("[4.0]"), reason: /is 4\.0; expected an integer/ },
  "an exponent": { bytes: shaped("[4e0]"), reason: /is 4e0; expected an integer/ },
  "a leading zero": { bytes: shaped("[04]"), reason: /is 04; expected an integer/ },
  "a leading plus": { bytes: shaped("[+4]"), reason: /is \+4; expected an integer/ },
  "a size in a string": { bytes: shaped('["4"]'), reason: /has to be an integer, not "\\""/ },
  "a size that is NaN": { bytes: shaped("[NaN]"), reason: /has to be an integer, not "N"/ },
  "a size that is true": { bytes: shaped("[true]"), reason: /has to be an integer, not "t"/ },
  "a size beyond 2^53": { bytes: shaped("[0,9007199254740993]", "[0,0]", 0), reason: /is 9007199254740993; expected/, laxer: true },
  "a size of 60 digits": { bytes: shaped(`[${"9".repeat(60)}]`), reason: /is 9{40}; expected an integer/ },
  "a shape that is a number": { bytes: shaped("4"), reason: /a shape needs "\[" here, not "4"/ },
  "65 dimensions": { bytes: shaped(`[${"1,".repeat(64)}4]`), reason: /a shape has more than 64 numbers/, laxer: true },
  "a million dimensions": { bytes: shaped(`[${"1,".repeat(1_000_000)}4]`), reason: /a shape has more than 64 numbers/, laxer: true },
  "a shape that overflows": { bytes: shaped("[4294967296,4294967296]", "[0,0]", 0), reason: /\[4294967296, 4294967296\] overflows/ },
  "a shape that wraps to 4": {
    bytes: shaped("[4611686018427387905,4]"), reason: /is 4611686018427387905; expected an integer from 0 to 2\^53 - 1/,
  },
  "an empty shape that overflows": { bytes: shaped("[4294967296,4294967296,0]", "[0,0]", 0), reason: /overflows/ },
  "a shape larger than its bytes": { bytes: shaped("[5]"), reason: /takes 5 bytes, but data_offsets \[0, 4\] hold 4/, entry: "a" },
  "a shape smaller than its bytes": { bytes: shaped("[3]"), reason: /takes 3 bytes, but/, entry: "a" },
  "an empty shape with bytes": { bytes: shaped("[0]"), reason: /takes 0 bytes, but/ },
  "no dimensions and four elements": { bytes: shaped("[]"), reason: /takes 1 bytes, but/ },
  // Positions.
  "three offsets": { bytes: shaped("[4]", "[0,4,4]"), reason: /data_offsets has more than 2 numbers/, entry: "a" },
  "one offset": { bytes: shaped("[4]", "[0]"), reason: /data_offsets has 1 numbers/, entry: "a" },
  "no offsets": { bytes: shaped("[4]", "[]"), reason: /data_offsets has 0 numbers/, entry: "a" },
  "a negative offset": { bytes: shaped("[4]", "[-4,0]"), reason: /is -4; expected an integer from 0/ },
  "an end before the begin": { bytes: shaped("[4]", "[4,0]"), reason: /ends at 0, before its begin at 4/, entry: "a" },
  "a hole": { bytes: file(two("[0,2]", "[3,5]"), 5), reason: /start at 3 of the data, which leaves a hole of 1/, entry: "b" },
  "a hole before the first": { bytes: shaped("[4]", "[1,5]", 5), reason: /start at 1 of the data, which leaves a hole of 1/, entry: "a" },
  "an overlap": { bytes: file(two("[0,2]", "[1,3]"), 3), reason: /start at 1 of the data, inside those of a, which end at 2/, entry: "b" },
  "the same bytes twice": { bytes: file(two("[0,2]", "[0,2]"), 2), reason: /inside those of a/, entry: "b" },
  "a missing byte": { bytes: file(`{${entry(GOOD)}}`, 3), reason: /take 4 bytes, but the file ends after 3; it is cut short/, entry: "a" },
  "a byte too many": { bytes: file(`{${entry(GOOD)}}`, 5), reason: /^1 bytes follow the last tensor/, entry: null },
  "data without tensors": { bytes: file("{}", 5), reason: /^5 bytes follow the last tensor/, entry: null, offset: 10 },
  "a petabyte": { bytes: shaped("[1125899906842624]", "[0,1125899906842624]"), reason: /but the file ends after 4/, entry: "a" },
};

test.each(Object.entries(cases))("%s", async (_name, { bytes, reason, entry: tensor, offset }) => {
  const error: unknown = await parseBytes(bytes).then(() => null, (fault: unknown) => fault);
  expect(error).toBeInstanceOf(CheckpointError);
  expect(error).toMatchObject({ file: "memory.pth", reason: expect.stringMatching(reason) });
  if (tensor !== undefined) expect((error as CheckpointError).entry).toBe(tensor);
  if (offset !== undefined) expect((error as CheckpointError).offset).toBe(offset);
  // Nothing that a terminal would obey, and no page of it.
  expect((error as CheckpointError).message).toMatch(/^[\x20-\x7e…]{1,700}$/);
});

test("a header whose object does not come first is told so where the file is known to be safetensors", async () => {
  const source = new MemorySource("memory.safetensors", file(`${entry(GOOD)}`));
  const options = { limits: defaultLimits, unknownGlobals: "error", tagFloats: false } as const;
  await expect(parseSafetensors(source, options, new MemoryBudget(source.size))).rejects.toMatchObject({
    name: "CheckpointError", reason: expect.stringMatching(/the header needs "{" here, not "\\""/), offset: 8,
  });
});

test.each(Object.entries({
  "as written by safetensors": `{"__metadata__":{"format":"pt"},${entry(GOOD)}}`,
  "spaces behind": `{${entry(GOOD)}}     `,
  "white space inside": `{\n\t"a" : { "dtype" : "U8" , "shape" : [ 4 ] ,\r\n "data_offsets" : [ 0 , 4 ] } }`,
  "an escaped name": '{"\\u0061":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
  "an escaped pair": '{"\\ud83d\\ude00":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}}',
  "an empty name and empty metadata": `{"__metadata__":{},${entry(GOOD, "")}}`,
  "fields in another order": '{"a":{"data_offsets":[0,4],"shape":[1,4,1],"dtype":"I8"}}',
}))("a sound header: %s", async (_name, header) => {
  const state = (await parseBytes(file(header))) as Map<string, { size: number[] }>;
  expect(state.size).toBe(1);
  expect(state.keys().next().value).toBe(header.includes("ud83d") ? "😀" : header.includes('"":') ? "" : "a");
});

describe("memory", () => {
  /** Counts what is asked of a source, which may claim any size. */
  class CountingSource implements ByteSource {
    readonly name = "counting.safetensors";
    read_ = 0;
    largest = 0;

    constructor(private readonly bytes: Buffer, readonly size = bytes.length) {}

    async read(target: Uint8Array, position: number): Promise<void> {
      this.read_ += target.byteLength;
      this.largest = Math.max(this.largest, target.byteLength);
      target.set(this.bytes.subarray(position, position + target.byteLength));
    }

    async close(): Promise<void> {}
  }

  const parse = (source: ByteSource): Promise<unknown> =>
    parseCheckpoint(source, { limits: defaultLimits, unknownGlobals: "error", tagFloats: false });

  test("nothing is read or taken for what a small file claims", async () => {
    for (const name of ["a header of more than 100 MB", "a header of 2^63 bytes", "a header beyond the file", "a petabyte"]) {
      const source = new CountingSource((cases[name] as Case).bytes);
      await expect(parse(source)).rejects.toBeInstanceOf(CheckpointError);
      expect(source.largest).toBeLessThanOrEqual(512);
    }
  });

  test("a header of 99 MB is not read where the file has not that much", async () => {
    const source = new CountingSource(file(`{${entry(GOOD)}}`, 4, 99_000_000n));
    await expect(parse(source)).rejects.toMatchObject({ reason: expect.stringMatching(/cut short/) });
    expect(source.read_).toBeLessThan(1024);
  });

  test("small entries in large numbers meet the budget before they fill the memory", async () => {
    const names = Array.from({ length: 200_000 }, (_, i) => entry('"dtype":"U8","shape":[0],"data_offsets":[0,0]', String(i)));
    const before = process.memoryUsage().rss;
    await expect(parseBytes(file(`{${names.join(",")}}`, 0))).rejects.toMatchObject({
      name: "CheckpointError", reason: expect.stringMatching(/would take the memory used for this file beyond \d+ bytes/),
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
  });

  test("long texts meet the limits", async () => {
    const long = "x".repeat(defaultLimits.stringBytes + 1);
    await expect(parseBytes(file(`{"${long}":{${GOOD}}}`))).rejects.toMatchObject({
      reason: expect.stringMatching(/name has 16777217 bytes; the limit is 16777216/),
    });
    const texts = Array.from({ length: 7 }, (_, i) => `"${i}":"${"x".repeat(12 * 2 ** 20)}"`);
    await expect(parseBytes(file(`{"__metadata__":{${texts.join(",")}}}`, 0))).rejects.toMatchObject({
      entry: "__metadata__", reason: expect.stringMatching(/would take the memory/),
    });
  });
});

/** Tells for each file whether `load_file` reads it. */
const READABLE = `
import json, sys
from safetensors.torch import load_file
def readable(path):
    try:
        load_file(path)
        return True
    except Exception:
        return False
print(json.dumps([readable(f"{sys.argv[1]}/{i}") for i in range(int(sys.argv[2]))]))
`;

(testPython === null ? describe.skip : describe)("Python's safetensors", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "moco-safetensors-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("refuses what we refuse, but for the cases that say so", async () => {
    const all = Object.values(cases);
    for (const [i, { bytes }] of all.entries()) await writeFile(join(folder, String(i)), bytes);
    const readable = runPython<boolean[]>(READABLE, [folder, String(all.length)]);
    const laxer = Object.keys(cases).filter((_, i) => readable[i]);
    expect(laxer).toEqual(Object.keys(cases).filter((name) => (cases[name] as Case).laxer));
  });
});
