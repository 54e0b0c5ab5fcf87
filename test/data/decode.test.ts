import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { decodeImage, sniffFormat } from "../../lib/data/index.js";
import { fixturePath, readJson, readNpz } from "../support/fixtures.js";
import { difference, golden, same } from "./pixels.js";

const file = (name: string): Uint8Array => readFileSync(fixturePath(`augment/${name}`));

interface Golden {
  file: string;
  size_wh: [number, number];
  decoded: string;
  decoded_region_ltrb: [number, number, number, number];
}

describe("photographs and odd files decode to PIL's pixels exactly", () => {
  const { files_and_goldens } = readJson<{ files_and_goldens: Golden[] }>("augment/manifest.json");
  test.each(files_and_goldens)("$file", async ({ file: name, size_wh, decoded, decoded_region_ltrb: [left, top, right, bottom] }) => {
    const image = await decodeImage(file(`files/${name}`));
    expect([image.width, image.height]).toEqual(size_wh);
    const part = new Uint8Array(3 * (right - left) * (bottom - top));
    for (let y = top; y < bottom; y++) {
      part.set(image.data.subarray(3 * (y * image.width + left), 3 * (y * image.width + right)), 3 * (y - top) * (right - left));
    }
    expect(difference(part, golden(decoded).data)).toEqual(same);
  });
});

describe("every format decodes to PIL's pixels exactly", () => {
  const expected = readNpz<Uint8Array>("augment/formats/decoded.npz");
  test.each([...expected.keys()])("%s", async (name) => {
    const image = await decodeImage(file(`formats/${name}`));
    expect([image.width, image.height]).toEqual([41, 27]);
    expect(difference(image.data, expected.get(name)!.data)).toEqual(same);
  });
});

describe("GIFs decode to PIL's pixels exactly, transparent or not, larger or smaller than their screen", () => {
  const expected = readNpz<Uint8Array>("augment/gif/decoded.npz");
  test.each([...expected.keys()])("%s", async (name) => {
    const { shape, data } = expected.get(name)!;
    const image = await decodeImage(file(`gif/${name}`));
    expect([image.height, image.width]).toEqual(shape.slice(0, 2));
    expect(difference(image.data, data)).toEqual(same);
  });

  test("or are refused where PIL refuses them", async () => {
    const whole = file("gif/long_codes.gif");
    await expect(decodeImage(whole.subarray(0, whole.length - 60))).rejects.toThrow(/truncated GIF/);
    await expect(decodeImage(whole.subarray(0, 20))).rejects.toThrow(/truncated GIF/);
    const large = Buffer.from(whole);
    large.writeUInt16LE(60000, 6);
    large.writeUInt16LE(60000, 8);
    await expect(decodeImage(large)).rejects.toThrow(/60000 x 60000 pixels, more than the limit/);
    await expect(decodeImage(Buffer.concat([whole.subarray(0, 13 + 768), Buffer.from(";")]))).rejects.toThrow(/without a picture/);
  });
});

describe("bad files", () => {
  test.each([
    ["an empty file", new Uint8Array(0), /empty/],
    ["text", Buffer.from("hello, I am no image"), /known format/],
    ["a PNG's signature alone", file("files/rgba.png").subarray(0, 8), /./],
    ["a BMP's signature alone", Buffer.from("BM"), /truncated BMP/],
    ["a PPM's signature alone", Buffer.from("P6"), /truncated/],
    ["a BMP of too many pixels", bmpHeader(60000, 60000), /60000 x 60000/],
    ["a PPM of too many pixels", Buffer.from("P6 60000 60000 255\n"), /60000 x 60000/],
    ["a PNG of too many pixels", pngHeader(60000, 60000), /60000 x 60000 pixels, more than the limit of 178956970/],
    ["a PPM with a word for a number", Buffer.from("P6 ten 10 255\n"), /not a number/],
  ])("%s", async (_, bytes, message) => {
    await expect(decodeImage(bytes)).rejects.toThrow(message);
  });

  const names = readdirSync(fixturePath("augment/files")).map((name) => `files/${name}`);
  const formats = readdirSync(fixturePath("augment/formats")).filter((name) => !name.endsWith(".npz")).map((name) => `formats/${name}`);

  test.each(names.filter((name) => !name.includes("flower")))("truncated %s", async (name) => {
    const bytes = file(name);
    for (const part of [0.2, 0.6]) {
      await expect(decodeImage(bytes.subarray(0, Math.floor(bytes.length * part)))).rejects.toThrow();
    }
  });

  test("mutated bytes never crash", async () => {
    let state = 1;
    const random = (bound: number): number => (state = (state * 48271) % 2147483647) % bound;
    for (const name of [...names.filter((name) => file(name).length < 50000), ...formats]) {
      for (let round = 0; round < 6; round++) {
        const bytes = Uint8Array.from(file(name));
        for (let i = 0; i < 1 + round; i++) bytes[random(round < 3 ? Math.min(64, bytes.length) : bytes.length)] = random(256);
        const image = await decodeImage(bytes).catch(() => null);
        if (image) expect(image.data.length).toBe(3 * image.width * image.height);
      }
    }
  });
});

test("the content decides the format", () => {
  expect(sniffFormat(file("files/png_inside.JPEG"))).toBe("png");
  expect(sniffFormat(file("files/gray.jpg"))).toBe("jpeg");
  expect(sniffFormat(file("formats/lossy.webp"))).toBe("webp");
  expect(sniffFormat(Buffer.from("P7 is another format"))).toBeNull();
});

function bmpHeader(width: number, height: number): Uint8Array {
  const bytes = Buffer.alloc(54);
  bytes.write("BM");
  bytes.writeUInt32LE(54, 10);
  bytes.writeUInt32LE(40, 14);
  bytes.writeInt32LE(width, 18);
  bytes.writeInt32LE(height, 22);
  bytes.writeUInt16LE(24, 28);
  return bytes;
}

function pngHeader(width: number, height: number): Uint8Array {
  const bytes = Buffer.from(file("files/rgba.png").subarray(0, 2000));
  bytes.writeUInt32BE(width, 16);
  bytes.writeUInt32BE(height, 20);
  bytes.writeInt32BE(crc32(bytes.subarray(12, 29)), 29);
  return bytes;
}

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc;
}
