import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync, appendFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { addPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { embedImages, type EmbedImagesOptions } from "../../lib/train/embedImages.js";
import { readEmbeddings } from "../../lib/train/embeddings/embeddingFile.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const folder = temporaryFolder("embed-images");
const at = (name: string): string => join(folder, name);
const base: EmbedImagesOptions = { images: [at("photos")], checkpoint: at("checkpoint_0000.pth.tar"), batchSize: 4, threads: 1, device: "cpu", maxBad: 0.5 };

beforeAll(async () => {
  mkdirSync(at("photos"));
  for (let i = 0; i < 22; i++) copyFileSync(fixturePath(`augment/files/${i % 2 ? "china" : "flower"}.jpg`), at(`photos/${String(i).padStart(2, "0")}.jpg`));
  for (const i of ["05", "13", "21"]) writeFileSync(at(`photos/${i}.jpg`), "no picture");
  torch.manualSeed(5);
  using moco = createMoCo({
    encoder: (numClasses) => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 24, depth: 2, numClasses }), dim: 8, mlpDim: 16,
  });
  await writeCheckpoint(base.checkpoint, { epoch: 1, state_dict: addPrefix(moco.stateDict()) });
});

/** Runs until so many images are done, then stops as a signal would let it. */
async function runUntil(images: number, options: EmbedImagesOptions): Promise<void> {
  const controller = new AbortController();
  const result = await embedImages(options, { signal: controller.signal, onProgress: (done) => void (done >= images && controller.abort("SIGINT")) });
  expect(result.reason).toBe("interrupted");
}

describe.each([".npy", ".parquet", ".jsonl", ".safetensors"])("%s", (ending) => {
  test("a run that was stopped twice ends with the bytes of one that was not", async () => {
    const [whole, parts] = [at(`whole${ending}`), at(`parts${ending}`)];
    const once = await embedImages({ ...base, out: whole });
    expect(once).toMatchObject({ reason: "finished", rows: 19, dim: 24, layer: "class", resumedFrom: 0 });
    expect(once.bad.map(({ name }) => name)).toEqual(["05.jpg", "13.jpg", "21.jpg"]);
    await runUntil(4, { ...base, out: parts });
    await runUntil(16, { ...base, out: parts });
    expect(existsSync(parts)).toBe(false);
    // What an abrupt end leaves behind the last line of the journal is cut off.
    appendFileSync(`${parts}.part/rows.f32`, "torn");
    appendFileSync(`${parts}.part/names.jsonl`, '"torn');
    appendFileSync(`${parts}.part/journal.jsonl`, '{"done":20,"ro');
    const again = await embedImages({ ...base, out: parts });
    expect(again).toMatchObject({ reason: "finished", rows: 19, resumedFrom: 16, bad: once.bad });
    expect(readFileSync(parts).equals(readFileSync(whole))).toBe(true);
    expect(readdirSync(folder).filter((name) => /\.part$|\.tmp$/.test(name))).toEqual([]);
    if (ending === ".npy") expect(readFileSync(at("parts.names.jsonl"), "utf8")).toBe(readFileSync(at("whole.names.jsonl"), "utf8"));
    using read = await readEmbeddings(parts);
    expect(read.names).toHaveLength(19);
    expect(read.names).not.toContain("05.jpg");
  });
});

test("pictures are turned upright where that is asked for", async () => {
  const rowsOf = async (exif: boolean): Promise<string> => {
    let rows = "";
    await embedImages({ ...base, images: [fixturePath("augment/files/exif_rot.jpg")], exif }, { onRows: ({ features }) => void (rows = [...features].join()) });
    return rows;
  };
  const [asStored, upright] = [await rowsOf(false), await rowsOf(true)];
  expect(asStored.split(",")).toHaveLength(24);
  expect(upright).not.toBe(asStored);
});

describe("going on", () => {
  const out = at("changed.npy");

  test("what has changed since is told, with both values and what to do", async () => {
    await runUntil(8, { ...base, out });
    const changes: [Partial<EmbedImagesOptions>, RegExp][] = [
      [{ layer: "patches" }, /layer was "class" and is "patches"/],
      [{ batchSize: 8 }, /batchSize was 4 and is 8/],
      [{ normalize: true }, /normalize was false and is true/],
      [{ precision: "bf16" }, /precision was "fp32" and is "bf16"/],
      [{ exif: true }, /exif was null and is true/],
    ];
    for (const [change, message] of changes) {
      await expect(embedImages({ ...base, out, ...change })).rejects.toMatchObject({ name: "EmbedResumeError", message: expect.stringMatching(message) as unknown });
    }
    const other = at("other.pth.tar");
    const bytes = readFileSync(base.checkpoint);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(other, bytes);
    await expect(embedImages({ ...base, out, checkpoint: other })).rejects.toThrow(/checkpoint was "[0-9a-f]{64}" and is "[0-9a-f]{64}"|CRC|checksum/);
    writeFileSync(at("photos/99.jpg"), readFileSync(at("photos/00.jpg")));
    await expect(embedImages({ ...base, out })).rejects.toThrow(/images was 22 and is 23.*Give what it was to go on, begin anew with --restart/);
    rmSync(at("photos/99.jpg"));
    const anew = await embedImages({ ...base, out, batchSize: 8, restart: true });
    expect(anew).toMatchObject({ resumedFrom: 0, rows: 19 });
  });

  test("a file that is there is not replaced unasked; results that are damaged are not gone on with", async () => {
    await expect(embedImages({ ...base, out })).rejects.toThrow(/changed\.names\.jsonl: it is there already; .*--force/);
    expect(await embedImages({ ...base, out, force: true })).toMatchObject({ rows: 19 });
    await runUntil(8, { ...base, out, force: true });
    truncateSync(`${out}.part/rows.f32`, 10);
    await expect(embedImages({ ...base, out })).rejects.toThrow(/rows\.f32 is damaged.*--restart/);
  });

  test("shards are gone on with at the same image, and other names are noticed", async () => {
    const pack = (...files: string[]): Buffer => execFileSync("tar", ["-cf", at("photos.tar"), "-C", at("photos"), ...files]);
    pack("00.jpg", "01.jpg", "05.jpg", "02.jpg", "03.jpg");
        const options = { ...base, images: [at("photos.tar")], batchSize: 1 };
    const whole = await embedImages({ ...options, out: at("tar-whole.npy") });
    for (const out of ["tar.npy", "other.npy"]) await runUntil(3, { ...options, out: at(out) });
    const rest = await embedImages({ ...options, out: at("tar.npy") });
    expect(rest).toMatchObject({ resumedFrom: 3, rows: 4, bad: whole.bad });
    expect(readFileSync(at("tar.npy")).equals(readFileSync(at("tar-whole.npy")))).toBe(true);
    pack("00.jpg", "04.jpg", "05.jpg", "02.jpg", "03.jpg");
    await expect(embedImages({ ...options, out: at("other.npy") })).rejects.toThrow(/not the first ones any more: files were added, removed or renamed/);
  });
});

test("the rows are the extractor's, of length 1 where asked for; without a file they go to the caller", async () => {
  const files = [at("photos/00.jpg"), at("photos/01.jpg"), at("photos/02.jpg")];
  const rows: { names: readonly string[]; features: Float32Array }[] = [];
  const result = await embedImages({ ...base, images: files, normalize: true, batchSize: 2 }, { onRows: (chunk) => void rows.push(chunk) });
  expect(result).toMatchObject({ out: null, rows: 3 });
  expect(rows.flatMap(({ names }) => names)).toEqual(files);
  for (const { features } of rows) {
    for (let row = 0; row < features.length; row += 24) expect(Math.hypot(...features.subarray(row, row + 24))).toBeCloseTo(1, 6);
  }
  const projected = await embedImages({ ...base, images: files, layer: "projector" }, { onRows: ({ features }) => expect(features).toHaveLength(24) });
  expect(projected).toMatchObject({ dim: 8, layer: "projector" });
});

test("too many unreadable images end the run, with their names", async () => {
  await expect(embedImages({ ...base, maxBad: 0.1, out: at("bad.npy") })).rejects.toMatchObject({ name: "TooManyBadImagesError" });
  mkdirSync(at("none"));
  linkSync(at("photos/05.jpg"), at("none/0.jpg"));
  await expect(embedImages({ ...base, images: [at("none")], maxBad: 1, out: at("none.npy") })).rejects.toMatchObject({ name: "TooManyBadImagesError" });
  expect(existsSync(at("none.npy"))).toBe(false);
});
