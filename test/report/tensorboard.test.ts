/** TensorBoard's event files, byte by byte, and as TensorBoard's own reader reads them (needs MOCO_TEST_TENSORBOARD). */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "@jest/globals";
import { TensorBoardLogger, type Histogram, type RunLogger } from "../../lib/report/index.js";
import { crc32c, maskedCrc32c } from "../../lib/report/tensorboard/crc32c.js";
import { fileVersionEvent, scalarsEvent } from "../../lib/report/tensorboard/eventMessages.js";
import { frameRecord, RecordFile } from "../../lib/report/tensorboard/recordFile.js";
import { viewGrid } from "../../lib/report/viewGrid.js";
import { testTensorBoard } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { endEntry, knnEntry, runEntry, stepEntry, watched } from "./logEntries.js";

const root = temporaryFolder("tensorboard");
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("checksums are those of RFC 3720", () => {
  const bytes = (of: (i: number) => number): Uint8Array => Uint8Array.from({ length: 32 }, (_, i) => of(i));
  expect([crc32c(bytes(() => 0)), crc32c(bytes(() => 255)), crc32c(bytes((i) => i)), crc32c(bytes((i) => 31 - i))])
    .toEqual([0x8a9136aa, 0x62a8ab43, 0x46dd794e, 0x113fdb5c]);
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  // Length 24, as the first record of TensorFlow's own files begins.
  expect(maskedCrc32c(Uint8Array.from([24, 0, 0, 0, 0, 0, 0, 0]))).toBe(0x224b7fa3);
});

describe("records", () => {
  test("the first event is TensorFlow's, to the byte", () => {
    const event = fileVersionEvent({ wallTime: 1.5, step: 0 });
    expect(hex(event)).toBe("09000000000000f83f1a0d627261696e2e4576656e743a32");
    const record = frameRecord(event);
    expect(hex(record.subarray(0, 12))).toBe("1800000000000000a37f4b22");
    expect(hex(record.subarray(12, 36))).toBe(hex(event));
    expect(new DataView(record.buffer).getUint32(36, true)).toBe(maskedCrc32c(event));
    expect(record.length).toBe(40);
  });

  test("numbers are a summary with a value for each tag", () => {
    const event = scalarsEvent({ wallTime: 1.5, step: 300 }, [{ tag: "a", value: 0.5 }, { tag: "bc", value: -2 }]);
    // wall time; step 300; summary of 21 bytes: "a" with 0.5, "bc" with -2
    expect(hex(event)).toBe("09000000000000f83f" + "10ac02" + "2a15" + "0a08" + "0a0161" + "150000003f" + "0a09" + "0a026263" + "15000000c0");
  });

  test("a file that is there is not written over", () => {
    const path = join(root, "there");
    writeFileSync(path, "mine");
    expect(() => new RecordFile(path)).toThrow(/EEXIST/);
    expect(readFileSync(path, "utf8")).toBe("mine");
  });
});

const histogram: Histogram = { min: -1, max: 3, count: 10, sum: 8, sumOfSquares: 30, limits: [1, 3], counts: [4, 6] };

async function logged(folder: string, firstStep: number, lastStep: number): Promise<void> {
  const logger = new TensorBoardLogger();
  const told: Required<Omit<RunLogger, "name">> = logger;
  await told.start({ folder, warn: () => undefined });
  await told.log(runEntry({ firstStep }));
  for (let step = firstStep; step < lastStep; step++) {
    await told.log(stepEntry(step, { ...watched, loss: firstStep + step }));
    if (step % 3 === 2) {
      await told.log(knnEntry(Math.floor(step / 3)));
      await told.histogram("weights/head", histogram, { step, epoch: 0 });
    }
  }
  await told.log({ kind: "warning", step: lastStep - 1, what: "collapse", message: "all the same" });
  const pixels = { data: new Uint8Array(300 * 3).fill(200), width: 30, height: 10 };
  await told.images("train/views", await viewGrid([[pixels, pixels], [pixels, pixels]]), { step: firstStep, epoch: 0 });
  if (lastStep === 12) await told.log(endEntry());
  await told.close();
}

test("without a folder there is nowhere to write", () => {
  expect(() => new TensorBoardLogger().start({ folder: null, warn: () => undefined })).toThrow(/give the logger a folder/);
});

test("each process writes a file of its own, in the order of their names", async () => {
  const folder = join(root, "files");
  mkdirSync(folder);
  writeFileSync(join(folder, "events.out.tfevents.9000000000.elsewhere.1.0"), ""); // from a clock that is ahead
  await logged(folder, 0, 1);
  await logged(folder, 0, 1);
  expect(readdirSync(folder).sort().map((name) => name.slice(0, 30))).toEqual([0, 1, 2].map((i) => `events.out.tfevents.900000000${i}`));
});

interface Read {
  scalars: Record<string, [step: number, value: number][]>;
  images: Record<string, [step: number, width: number, height: number, png: boolean][]>;
  histograms: Record<string, [step: number, min: number, max: number, count: number, sum: number, limits: number[], counts: number[]][]>;
  texts: Record<string, [step: number, text: string][]>;
  hparams: Record<string, unknown>;
  status: string | null;
}

const readByTensorBoard = (folder: string): Read => {
  const script = fileURLToPath(new URL("../../../test/report/read_events.py", import.meta.url));
  return JSON.parse(execFileSync(testTensorBoard!, [script, folder], { encoding: "utf8", maxBuffer: 2 ** 26, stdio: ["ignore", "pipe", "ignore"] })) as Read;
};

(testTensorBoard === null ? describe.skip : describe)("read by TensorBoard", () => {
  test("a run that was killed in the middle of a record and resumed reads as one that was not", async () => {
    const folder = join(root, "resumed");
    await logged(folder, 0, 8);
    const [first] = readdirSync(folder);
    const { length } = readFileSync(join(folder, first!));
    truncateSync(join(folder, first!), length - 7);
    await logged(folder, 5, 12); // its checkpoint was that of step 5

    const { scalars, images, histograms, texts, hparams, status } = readByTensorBoard(folder);
    expect(scalars["train/loss"]).toEqual([0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16].map((value, step) => [step, value]));
    expect(scalars["train/lr"]!.map(([, lr]) => lr)).toEqual(Array.from({ length: 12 }, (_, step) => Math.fround(step / 100)));
    expect(scalars["knn/acc1"]).toEqual([[2, 0], [5, 10], [8, 20], [11, 30]]);
    expect(scalars["stability/gradient_norm_block/01"]).toHaveLength(12);
    expect(Object.keys(scalars)).not.toContain("stability/gradient_norm_stem");
    // The one of step 0 was cut off.
    expect(images).toEqual({ "train/views": [[5, 3 * 4 + 2 * 30, 3 * 4 + 2 * 10, true]] });
    expect(histograms["weights/head"]!.map(([step]) => step)).toEqual([2, 5, 8, 11]);
    expect(histograms["weights/head"]![0]).toEqual([2, -1, 3, 10, 8, [1, 3], [4, 6]]);
    expect(texts.warnings!.at(-1)).toEqual([11, "all the same"]);
    expect(texts.options![0]![1]).toContain("| mixing.alpha | 0.8 |");
    expect(hparams).toEqual({ arch: "vit_tiny", lr: 0.1, mCos: true, betas: "[0.9,0.95]", "mixing.alpha": 0.8 });
    expect(status).toBe("STATUS_SUCCESS");
  }, 60_000);
});
