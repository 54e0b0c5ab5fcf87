import { copyFileSync, existsSync, linkSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import sharp from "sharp";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { readEmbeddings } from "../../lib/train/embeddings/embeddingFile.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { startMoco, type Outcome } from "./moco.js";

expectNoTensorsLeft();

const folder = temporaryFolder("embed-cli");
const china = fixturePath("augment/files/china.jpg");
/** Enough for some seconds, so that a signal comes in time. */
const count = 1500;

beforeAll(async () => {
  using encoder = new VisionTransformer({ imageSize: 64, patchSize: 16, embedDim: 24, depth: 2, numClasses: 0 });
  await writeCheckpoint(join(folder, "encoder.pth"), { state_dict: encoder.stateDict() });
  mkdirSync(join(folder, "photos"));
  // Large enough that decoding takes a while.
  const large = await sharp(china).resize(1400).jpeg().toBuffer();
  await sharp(large).toFile(join(folder, "photos", "000.jpg"));
  for (let i = 1; i < count - 1; i++) linkSync(join(folder, "photos", "000.jpg"), join(folder, "photos", `${String(i).padStart(3, "0")}.jpg`));
  copyFileSync(china, join(folder, "photos", "small.jpg"));
});

test("image files without --out are JSON lines on standard output", async () => {
  const { code, stdout, stderr } = await startMoco(["embed", china, fixturePath("augment/files/flower.jpg"), "--pretrained", "encoder.pth"], { cwd: folder });
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  const rows = stdout.trim().split("\n").map((line) => JSON.parse(line) as { file: string; embedding: number[] });
  expect(rows.map(({ file, embedding }) => [file, embedding.length])).toEqual([[china, 24], [fixturePath("augment/files/flower.jpg"), 24]]);
  expect(stderr).toMatch(/encoder\.pth, layer class \(24 values\), input 64 x 64, on cpu: 2 images\n/);
});

const words = (out: string): string[] => ["embed", "photos", "--pretrained", "encoder.pth", "--out", out, "--batch-size", "4", "--threads", "1", "--device", "cpu"];

/** A run that gets a signal on the way. On a busy machine it may come too late; then the run is tried again. */
async function stoppedRun(signal: "SIGKILL" | "SIGINT", out: string): Promise<Outcome> {
  for (let attempt = 0; ; attempt++) {
    let killed = false;
    const outcome = await startMoco(words(out), {
      cwd: folder,
      // Results are safe at the latest when the next line but one comes.
      onStderr: (text, child) => {
        if (!killed && (text.match(/ images\/s\n/g)?.length ?? 0) >= 3) killed = child.kill(signal);
      },
    });
    if (outcome.code !== 0 || attempt === 4) return outcome;
    for (const ending of [".npy", ".names.jsonl"]) rmSync(join(folder, out.replace(".npy", ending)));
  }
}

describe("a run that is stopped", () => {
  test.each(["SIGKILL", "SIGINT"] as const)("by %s goes on, and the file has the bytes of one that was not", async (signal) => {
    const stopped = await stoppedRun(signal, `${signal}.npy`);
    expect(signal === "SIGKILL" ? stopped.signal : stopped.code).toBe(signal === "SIGKILL" ? "SIGKILL" : 1);
    if (signal === "SIGINT") expect(stopped.stderr).toMatch(/Stopped by SIGINT after \d+ images\. Go on with:\n {2}.* embed photos --pretrained/);
    expect(existsSync(join(folder, `${signal}.npy`))).toBe(false);
    const other = await startMoco([...words(`${signal}.npy`), "--normalize"], { cwd: folder });
    expect(other).toMatchObject({ code: 1, stderr: expect.stringMatching(/normalize was false and is true\. .*--restart/) as unknown });
    const rest = await startMoco([...words(`${signal}.npy`), "--json"], { cwd: folder });
    const result = JSON.parse(rest.stdout) as { rows: number; resumedFrom: number };
    expect(result.rows).toBe(count);
    expect(result.resumedFrom).toBeGreaterThan(0);
    expect(result.resumedFrom).toBeLessThan(count);
    if (!existsSync(join(folder, "whole.npy"))) expect(await startMoco(words("whole.npy"), { cwd: folder })).toMatchObject({ code: 0, stdout: "whole.npy\n" });
    for (const ending of [".npy", ".names.jsonl"]) {
      expect(readFileSync(join(folder, `${signal}${ending}`)).equals(readFileSync(join(folder, `whole${ending}`)))).toBe(true);
    }
    using read = await readEmbeddings(join(folder, `${signal}.npy`));
    expect(read.names[0]).toBe("000.jpg");
  }, 120_000);
});

test.each([
  [["embed", china], 2, /say which encoder makes the vectors: --pretrained/],
  [["embed", china, "--pretrained", "none.pth"], 1, /there is no checkpoint none\.pth/],
  [["embed", china, "--pretrained", "encoder.pth", "--json"], 2, /--json tells about a file; give --out/],
  [["embed", china, "--pretrained", "encoder.pth", "--out", "x.txt"], 1, /let it end in \.npy, \.parquet, \.jsonl, \.safetensors/],
  [["embed", china, "--pretrained", "encoder.pth", "--layer", "projector"], 1, /has no projector/],
  [["embed", china, "--pretrained", "encoder.pth", "--device", "cuda:9"], 2, /cuda:9/],
  [["embed", "nowhere", "--pretrained", "encoder.pth"], 1, /there is no folder or file .*nowhere/],
] as const)("%j ends with code %i", async (command, code, message) => {
  const outcome = await startMoco(command, { cwd: folder });
  expect(outcome.stderr).toMatch(message);
  expect(outcome.code).toBe(code);
});
