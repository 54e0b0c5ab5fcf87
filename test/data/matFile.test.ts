import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import { describe, expect, test } from "@jest/globals";
import { MatFileError, parseMatFile, readMatFile } from "../../lib/data/datasets/matFile.js";
import { fixturePath, readJson } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("mat");
const plain = readFileSync(fixturePath("datasets/mat/plain.mat"));

/** An element: type and size in the tag, then the bytes, padded to eight. */
function element(type: number, bytes: Uint8Array, padded = true, bigEndian = false): Buffer {
  const tag = Buffer.alloc(8);
  if (bigEndian) tag.writeUInt32BE(bytes.length, tag.writeUInt32BE(type, 0));
  else tag.writeUInt32LE(bytes.length, tag.writeUInt32LE(type, 0));
  return Buffer.concat([tag, bytes, Buffer.alloc(padded ? (8 - (bytes.length % 8)) % 8 : 0)]);
}

/** A variable of whole numbers from 0 to 255. */
function matrix(sizes: number[], values: Uint8Array, name = "x"): Buffer {
  return element(14, Buffer.concat([
    element(6, new Uint8Array(Uint32Array.of(9, 0).buffer)),
    element(5, new Uint8Array(Int32Array.from(sizes).buffer)),
    element(1, Buffer.from(name)),
    element(2, values),
  ]));
}

const header = plain.subarray(0, 128);
const file = (...elements: Uint8Array[]): Buffer => Buffer.concat([header, ...elements]);
const refusal = (bytes: Uint8Array): string => {
  try {
    parseMatFile(bytes, "a.mat");
  } catch (error) {
    expect(error).toBeInstanceOf(MatFileError);
    return (error as Error).message;
  }
  throw new Error("the file was read");
};

describe("files that scipy wrote", () => {
  const expected = readJson<Record<string, { shape: number[]; values: number[] }>>("datasets/mat/expected.json");

  test.each(["plain", "compressed"])("%s: every numeric variable as scipy reads it, and no other", async (name) => {
    const found = await readMatFile(fixturePath(`datasets/mat/${name}.mat`));
    const listed = [...found].map(([key, { shape, values }]) => [key, { shape, values: [...values] }]);
    expect(Object.fromEntries(listed)).toEqual(
      Object.fromEntries(Object.entries(expected).map(([key, { shape, values }]) => [key, { shape, values: values.map(Number) }])),
    );
  });
});

test("a big-endian file is read", () => {
  const big = (type: number, bytes: Uint8Array): Buffer => element(type, bytes, true, true);
  const numbers = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(4 * values.length);
    values.forEach((value, i) => bytes.writeInt32BE(value, 4 * i));
    return bytes;
  };
  const doubles = Buffer.alloc(16);
  doubles.writeDoubleBE(-1.5, doubles.writeDoubleBE(1e300, 0));
  const start = Buffer.from(header);
  start.write("\x01\x00MI", 124, "latin1");
  const small = Buffer.from([0, 1, 0, 1, 0x61, 0, 0, 0]); // one byte of type 1, in the tag: the name "a"
  const bytes = Buffer.concat([start, big(14, Buffer.concat([big(6, numbers(6, 0)), big(5, numbers(1, 2)), small, big(9, doubles)]))]);
  const values = Float64Array.of(1e300, -1.5);
  expect([...parseMatFile(bytes, "big.mat")]).toEqual([["a", { name: "a", shape: [1, 2], values }]]);
});

describe("files that cannot be read are refused, and say why", () => {
  test("cut short anywhere, they give an error or the variables before the cut", () => {
    const whole = [...parseMatFile(plain, "plain.mat").keys()];
    let refused = 0;
    for (let length = 0; length < plain.length; length++) {
      try {
        const names = [...parseMatFile(plain.subarray(0, length), "cut.mat").keys()];
        expect(whole.slice(0, names.length)).toEqual(names);
      } catch (error) {
        expect(error).toBeInstanceOf(MatFileError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(plain.length * 0.9);
    expect(refusal(plain.subarray(0, 300))).toMatch(
      /^a\.mat: it ends inside an element of \d+ bytes, of which \d+ are there; the file is damaged/,
    );
  });

  test("every changed byte gives an error or another content, and never anything else", () => {
    const compressed = readFileSync(fixturePath("datasets/mat/compressed.mat"));
    for (const original of [plain, compressed]) {
      for (let at = 124; at < original.length; at++) {
        for (const flip of [0x01, 0x80, 0xff]) {
          const changed = Buffer.from(original);
          changed[at]! ^= flip;
          try {
            parseMatFile(changed, "changed.mat");
          } catch (error) {
            if (!(error instanceof MatFileError)) throw error;
          }
        }
      }
    }
  });

  test("bombs", () => {
    const bomb = deflateSync(Buffer.alloc(2 ** 26));
    expect(bomb.length).toBeLessThan(2 ** 17);
    const before = process.memoryUsage().rss;
    expect(refusal(file(element(15, bomb, false)))).toMatch(/more than 16777216 bytes unpacked/);
    const half = deflateSync(matrix([1, 9 * 2 ** 20], new Uint8Array(9 * 2 ** 20)));
    expect(refusal(file(element(15, half, false), element(15, half, false)))).toMatch(/more than 16777216 bytes unpacked/);
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 2 ** 20);
  });

  test("sizes that do not fit the values", () => {
    expect(refusal(file(matrix([2 ** 30, 2 ** 30], new Uint8Array(8))))).toMatch(
      /x has 8 values, where its sizes 1073741824 x 1073741824 ask for/,
    );
    expect(refusal(file(matrix([-2, -4], new Uint8Array(8))))).toMatch(/sizes are -2 x -4/);
    expect(refusal(file(matrix([8], new Uint8Array(8))))).toMatch(/sizes are 8;/);
    expect(parseMatFile(file(matrix([2, 4], new Uint8Array(8))), "x.mat").get("x")!.shape).toEqual([2, 4]);
  });

  test("too many variables", () => {
    const empty = element(14, new Uint8Array(0));
    expect(refusal(file(...Array.from({ length: 10_001 }, () => empty)))).toMatch(/more than 10000 variables/);
  });

  test("names that would move the terminal's cursor are quoted", () => {
    expect(refusal(file(matrix([1, 1], new Uint8Array(3), "\x1b[2J")))).toContain(String.raw`"\u001b[2J" has 3 values`);
  });

  test("other versions", async () => {
    await expect(readMatFile(fixturePath("datasets/mat/version4.mat"))).rejects.toThrow(/no MAT-file of level 5/);
    expect(refusal(Buffer.from("MATLAB 7.3 MAT-file, Platform: GLNXA64".padEnd(600)))).toMatch(/version 7.3; save it with `save -v7`/);
    expect(refusal(new Uint8Array(0))).toMatch(/0 bytes, no header/);
  });

  test("missing, folders and large ones", async () => {
    await expect(readMatFile(join(folder, "none.mat"))).rejects.toThrow(/none\.mat: there is no such file/);
    await expect(readMatFile(folder)).rejects.toThrow(/it cannot be read: it is not a regular file/);
    const large = join(folder, "large.mat");
    writeFileSync(large, new Uint8Array(2 ** 24 + 1));
    await expect(readMatFile(large)).rejects.toThrow(/it has 16777217 bytes; files up to 16777216 are read/);
  });
});
