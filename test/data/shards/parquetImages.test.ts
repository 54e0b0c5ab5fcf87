import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { BadImageError } from "../../../lib/data/errors.js";
import type { StreamRequest, StreamedImage } from "../../../lib/data/imageSource.js";
import { ParquetImages } from "../../../lib/data/shards/parquetImages.js";
import { ShardError } from "../../../lib/data/shards/shardError.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";

interface Row {
  sha256: string | null;
  path: string | null;
  label: number | null;
}

const expected = readJson<{ parquet: Record<string, Row[]> }>("shards/expected.json").parquet;
const file = (name: string): string => fixturePath(`shards/${name}`);
const folder = temporaryFolder("parquet");
const request: StreamRequest = { seed: 2, epoch: 0, rank: 0, worldSize: 1 };

async function imagesOf(stream: ParquetImages, changes: Partial<StreamRequest> = {}): Promise<StreamedImage[]> {
  const images: StreamedImage[] = [];
  for await (const image of stream.stream({ ...request, ...changes })) images.push(image);
  return images;
}

const idsOf = async (stream: ParquetImages, changes: Partial<StreamRequest> = {}): Promise<number[]> =>
  (await imagesOf(stream, changes)).map(({ id }) => id);

const sorted = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);

async function digestOf({ image }: StreamedImage): Promise<string> {
  const bytes = await image;
  expect(bytes).toBeInstanceOf(Uint8Array);
  return createHash("sha256").update(bytes as Uint8Array).digest("hex");
}

describe("Hugging Face's layout", () => {
  test("bytes, labels and names of classes; several row groups, compressed by snappy", async () => {
    const images = await ParquetImages.open(file("hf-snappy.parquet"), { shuffle: false });
    expect(images.length).toBe(13);
    expect(images.classes).toEqual(["airplane", "automobile", "bär"]);
    const read = await imagesOf(images);
    expect(await Promise.all(read.map(digestOf))).toEqual(expected["hf-snappy.parquet"]!.map(({ sha256 }) => sha256));
    expect(read.map(({ id, label }) => [id, label])).toEqual(expected["hf-snappy.parquet"]!.map(({ label }, i) => [i, label]));
    expect(read[7]!.name).toBe("hf-snappy.parquet row 7 (7.png)");
  });

  test("rows without bytes are the files that they name; without a name too they are bad images. zstd, pages of version 2", async () => {
    const images = await ParquetImages.open(file("nulls-zstd.parquet"), { shuffle: false });
    const read = await imagesOf(images);
    const rows = expected["nulls-zstd.parquet"]!;
    expect(read).toHaveLength(rows.length);
    for (const [i, row] of rows.entries()) {
      if (row.sha256 !== null) expect(await digestOf(read[i]!)).toBe(row.sha256);
      else if (row.path !== null) expect(read[i]!.image).toBe(file(row.path));
      else {
        const error = await Promise.resolve(read[i]!.image).then(() => null, (reason: unknown) => reason);
        expect(error).toBeInstanceOf(BadImageError);
        expect((error as Error).message).toBe(`nulls-zstd.parquet row ${i}: neither bytes nor a path in the column image`);
      }
    }
    expect(rows.filter(({ sha256, path }) => sha256 === null && path === null).length).toBeGreaterThan(1);
    // -1 is Hugging Face's label of images without one.
    expect(read.map(({ label }) => label)).toEqual(rows.map(({ label }) => (label === -1 ? null : label)));
    expect(images.classes).toBeUndefined();
  });

  test("a column of bytes, without labels or with those of a named column", async () => {
    const images = await ParquetImages.open(file("bytes-plain.parquet"), { shuffle: false });
    const read = await imagesOf(images);
    expect(await Promise.all(read.map(digestOf))).toEqual(expected["bytes-plain.parquet"]!.map(({ sha256 }) => sha256));
    expect(read.every(({ label }) => label === null)).toBe(true);
    const labelled = await ParquetImages.open(file("bytes-plain.parquet"), { shuffle: false, column: "jpg", labelColumn: "klass" });
    expect((await imagesOf(labelled)).map(({ label }) => label)).toEqual(Array.from({ length: 30 }, (_, i) => i % 4));
  });
});

describe("an epoch", () => {
  const three = [file("hf-snappy.parquet"), file("bytes-plain.parquet"), file("nulls-zstd.parquet")];

  test("over several files has every row once, the same at every request", async () => {
    const images = await ParquetImages.open(three, { shuffleBuffer: 6 });
    expect(images.length).toBe(52);
    expect(images.shards).toHaveLength(3 + 2 + 3);
    const order = await idsOf(images);
    expect(sorted(order)).toEqual(Array.from({ length: 52 }, (_, i) => i));
    expect(await idsOf(images)).toEqual(order);
    expect(await idsOf(await ParquetImages.open(three, { shuffleBuffer: 6 }))).toEqual(order);
    expect(await idsOf(images, { epoch: 1 })).not.toEqual(order);
  });

  test.each([2, 3, 16])("%d ranks cover every row once, with the same bytes", async (worldSize) => {
    const images = await ParquetImages.open(three.slice(0, 2));
    const all = new Map((await imagesOf(images)).map((image) => [image.id, image]));
    const ranks = await Promise.all(Array.from({ length: worldSize }, (_, rank) => imagesOf(images, { rank, worldSize })));
    expect(sorted(ranks.flat().map(({ id }) => id))).toEqual(sorted([...all.keys()]));
    for (const image of ranks.flat()) expect(await digestOf(image)).toBe(await digestOf(all.get(image.id)!));
  });

  test("an image in the buffer holds its own bytes, not its row group's", async () => {
    for (const { image } of await imagesOf(await ParquetImages.open(file("bytes-plain.parquet")))) {
      const bytes = (await image) as Uint8Array;
      expect(bytes.buffer.byteLength).toBe(bytes.length);
    }
  });

  test("a folder stands for its Parquet files", async () => {
    const inside = join(folder, "data");
    mkdirSync(inside);
    copyFileSync(file("hf-snappy.parquet"), join(inside, "train-1.parquet"));
    copyFileSync(file("hf-snappy.parquet"), join(inside, "train-0.PARQUET"));
    writeFileSync(join(inside, "info.json"), "{}");
    const images = await ParquetImages.open(inside, { shuffle: false });
    expect((await imagesOf(images)).map(({ name }) => name.split(" ")[0]!).filter((name, i, names) => name !== names[i - 1]))
      .toEqual(["train-0.PARQUET", "train-1.parquet"]);
    expect((await ParquetImages.open(join(inside, "train-{1..1}.parquet"))).length).toBe(13);
  });
});

describe("files that cannot be used are named, with what to do", () => {
  test("without a column of images, its columns are listed", async () => {
    await expect(ParquetImages.open(file("no-images.parquet"))).rejects
      .toThrow(/no-images\.parquet: no column of images \(image, img, .*its columns are id \(INT64\), score \(DOUBLE\); name one of/);
    await expect(ParquetImages.open(file("hf-snappy.parquet"), { column: "label" })).rejects
      .toThrow(/no column label of images: .* are id \(INT64\), image \(struct of bytes, path\), label \(INT64\), caption \(STRING\)/);
    await expect(ParquetImages.open(file("hf-snappy.parquet"), { labelColumn: "klass" })).rejects.toThrow(/no column klass of labels/);
    await expect(ParquetImages.open(file("no-images.parquet"))).rejects.toBeInstanceOf(ShardError);
  });

  test("cut off, damaged, or something else", async () => {
    const bytes = readFileSync(file("hf-snappy.parquet"));
    const path = join(folder, "bad.parquet");
    const reading = async (content: Uint8Array | string): Promise<unknown> => {
      writeFileSync(path, content);
      return imagesOf(await ParquetImages.open(path));
    };
    await expect(reading(bytes.subarray(0, -100))).rejects.toThrow(/bad\.parquet: cannot be read as Parquet: .*; fetch or write the file/);
    await expect(reading("")).rejects.toBeInstanceOf(ShardError);
    await expect(reading("PAR1")).rejects.toBeInstanceOf(ShardError);
    const zeros = Buffer.from(bytes);
    zeros.fill(0xff, 4, 1500);
    await expect(reading(zeros)).rejects.toBeInstanceOf(ShardError);
    await expect(ParquetImages.open(join(folder, "none.parquet"))).rejects.toThrow(/none\.parquet: there is no such file/);
    // A page that says two thousand million values: decoding it would take minutes.
    const many = readFileSync(file("nulls-zstd.parquet"));
    many[751] = 0xb8;
    await expect(reading(many)).rejects.toThrow(/the page at byte \d+ of \S+ says sizes that cannot be/);
    for (let i = 0; i < 120; i++) { // a damaged byte anywhere: an error of ours or other bytes, never anything else
      const mutated = Buffer.from(bytes);
      mutated[(i * 8191) % bytes.length]! ^= 1 + (i % 255);
      const error = await reading(mutated).then(() => null, (reason: unknown) => reason);
      if (error !== null) expect(error).toBeInstanceOf(ShardError);
    }
  });
});
