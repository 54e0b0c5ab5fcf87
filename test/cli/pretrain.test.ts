import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { PretrainPlan } from "../../lib/train/planning/planPretraining.js";
import { readRunLog } from "../../lib/report/index.js";
import { png, synthetic } from "../data/pixels.js";
import { startCommand, startMoco, type Outcome } from "./moco.js";

/** The smallest encoder that has a name, on the smallest images that it makes something of. */
const small = "-a resnet18 -b 4 --image-size 32 --moco-dim 8 --moco-mlp-dim 16 --threads 1 -j 1 --device cpu --seed 3 -p 1".split(" ");
const imageCount = 9;
let root: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "moco-cli-"));
  await mkdir(join(root, "photos", "cats"), { recursive: true });
  for (let i = 0; i < imageCount; i++) await writeFile(join(root, "photos", "cats", `${i}.png`), await png(synthetic(i)));
  await mkdir(join(root, "torn"));
  for (let i = 0; i < imageCount; i++) await writeFile(join(root, "torn", `${i}.png`), await png(synthetic(i)));
  await writeFile(join(root, "torn", "half.png"), (await png(synthetic(3))).subarray(0, 60));
  await mkdir(join(root, "empty"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const moco = (words: readonly string[], options = {}): Promise<Outcome> => startMoco(["pretrain", ...words], { cwd: root, ...options });

describe("wrong usage ends with 2, failure with 1, before anything is written", () => {
  test.each<[string, string[], number, RegExp]>([
    ["no folder named", [...small], 2, /missing required argument 'DATA'/],
    ["an unknown flag", ["photos", "--learnig-rate", "1"], 2, /unknown option '--learnig-rate'/],
    ["a value out of range", ["photos", "--crop-min", "2"], 2, /'2' is invalid. It takes a number above 0 and of at most 1/],
    ["an unknown architecture", ["photos", ...small, "-a", "resnet51"], 2, /"resnet51".*resnet50/],
    ["machines that do not say which they are", ["photos", ...small, "--world-size", "2"], 2, /--world-size is 2, but neither --rank nor RANK/],
    ["float16 on the CPU", ["photos", ...small, "--precision", "fp16"], 2, /fp16 needs a GPU/],
    ["an unknown key in the configuration", ["photos", "--config", "bad.json"], 2, /bad.json: "batchsize" is no flag/],
    ["a folder that is not there", ["nowhere", ...small], 1, /there is no folder .*nowhere/],
    ["a folder without images", ["empty", ...small], 1, /no images in .*empty/],
    ["fewer images than a batch", ["photos"], 1, /9 images, fewer than one batch of 4096.*--batch-size/],
    ["no checkpoint to resume", ["photos", ...small, "--resume", "nowhere"], 1, /no checkpoint nowhere/],
  ])("%s", async (_, words, code, message) => {
    writeFileSync(join(root, "bad.json"), '{"batchsize": 4}');
    const outcome = await moco(words);
    expect(outcome).toMatchObject({ code, stdout: "" });
    expect(outcome.stderr).toMatch(message);
    expect(readdirSync(root)).not.toContain("runs");
  });
});

test("a run: progress on stderr, the result on stdout, bad images named and counted, log and checkpoint in the folder", async () => {
  const outcome = await moco(["torn", ...small, "--epochs", "1", "--max-bad", "0.2", "--out", "one", "--json"]);
  expect(outcome.stderr).toMatch(/resnet18 on cpu: 10 images in torn, 1 epoch of 2 steps of 4, fp32, seed 3. Writing to one/);
  expect(outcome.stderr).toMatch(/^epoch 1\/1 {2}step 2\/2 {2}loss \d+\.\d{4} {2}lr .* img\/s {2}wait \d+% {2}left 0s$/m);
  expect(outcome.stderr).toMatch(/left out: half.png: /);
  expect(outcome.code).toBe(0);
  expect(JSON.parse(outcome.stdout)).toMatchObject({
    reason: "finished", checkpoint: "one/checkpoint_0000.pth.tar", out: "one", log: "one/log.jsonl", steps: 2, resume: null,
    badImages: [{ name: "half.png" }],
  });
  expect(readdirSync(join(root, "one")).sort()).toEqual(["checkpoint_0000.pth.tar", "last.pth.tar", "log.jsonl"]);
  const { runs, badImages } = readRunLog(join(root, "one", "log.jsonl"));
  expect(runs[0]).toMatchObject({ images: 10, stepsPerEpoch: 2, options: { lr: (0.6 * 4) / 256, optimizer: "lars", seed: 3 } });
  expect(badImages).toMatchObject([{ path: "half.png" }]);

  const again = await moco(["torn", ...small, "--out", "one"]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringMatching(/one already holds a run.*--resume one/)]);
});

test("--plan tells what a run would take, and leaves nothing behind", async () => {
  const before = readdirSync(root);
  const { code, stdout, stderr } = await moco(["photos", ...small, "--epochs", "6", "--keep", "2", "--plan", "--json"]);
  expect([code, stderr]).toEqual([0, "measuring: steps at a tiny batch\nmeasuring: loading\nmeasuring: disk\n"]);
  expect(readdirSync(root)).toEqual(before);
  const plan = JSON.parse(stdout) as PretrainPlan;
  expect(plan).toMatchObject({
    arch: "resnet18", device: "cpu", batchSize: 4, images: 9, epochs: 6, stepsPerEpoch: 2, gpu: null,
    chunk: { fits: true, microBatch: null }, checkpoints: { kept: 2 }, pace: { threadsNeeded: null, threads: 1 },
  });
  const { memory: { training: { bytes, parts } }, pace, measured, checkpoints } = plan;
  expect(parts.reduce((sum, part) => sum + part.bytes, 0)).toBeCloseTo(bytes, 0);
  expect(bytes).toBeGreaterThan(2e8);
  expect(pace.trainingSeconds).toBeCloseTo(12 * pace.stepSeconds, 6);
  for (const value of [pace.computeSeconds, pace.loadSeconds, measured.flopPerSecond, measured.diskBytesPerSecond]) expect(value).toBeGreaterThan(0);
  // Both encoders with their heads and LARS's state, float32.
  expect(checkpoints.bytes / (3 * 4 * plan.network.parameters)).toBeCloseTo(1, 1);

  const refused = await moco(["photos", ...small, "-b", "10", "--plan"]);
  expect([refused.code, refused.stdout, refused.stderr]).toEqual([1, "", expect.stringMatching(/9 images, fewer than one batch of 10/)]);
}, 60_000);

test("too many bad images stop the run, with the list", async () => {
  const { code, stderr } = await moco(["torn", ...small, "--out", "strict"]);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/1 of 10 images could not be read.*\n {2}half.png: /)]);
});

test("SIGTERM saves in the middle of an epoch; the printed command goes on; so does --stop-after", async () => {
  let sent = false;
  const stopped = await moco(["photos", ...small, "--epochs", "1000", "--save-every", "1000", "--out", "two"], {
    onStderr: (text: string, child: { kill(signal: string): boolean }) => {
      if (!sent && text.includes("step 1/2")) sent = child.kill("SIGTERM");
    },
  });
  expect([stopped.code, stopped.signal]).toEqual([0, null]);
  expect(stopped.stderr).toContain("SIGTERM: finishing this step, then saving.");
  const { steps } = readRunLog(join(root, "two", "log.jsonl"));
  const [, checkpoint] = /Everything is saved in (\S+)\./.exec(stopped.stderr)!;
  expect(stopped.stdout).toBe(`${checkpoint}\n`);
  expect(stopped.stderr).toContain(`after ${steps.length} step`);

  const command = /Go on with:\n {2}(.*)\n/.exec(stopped.stderr)![1]!;
  const on = await startCommand("sh", ["-c", `${command} --stop-after 1 --quiet`], { cwd: root });
  expect(on.code).toBe(0);
  expect(on.stderr).toMatch(/^Stopped as --stop-after asks after 1 step\./);
  const log = readRunLog(join(root, "two", "log.jsonl"));
  expect(log.runs[1]).toMatchObject({ firstStep: steps.length, resumedFrom: checkpoint });
  expect(log.steps.map(({ step }) => step)).toEqual(Array.from({ length: steps.length + 1 }, (_, i) => i));
});

test("a run that diverges says why, and what to go on from", async () => {
  const { code, stderr } = await moco(["photos", ...small, "--epochs", "3", "--warmup-epochs", "2", "--lr", "1e22", "--out", "three"]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/The last checkpoint is three\/checkpoint_0000.pth.tar. Go on with:\n {2}node .* pretrain --resume three photos/);
  expect(stderr).toMatch(/Step \d+ .*stopped before the weights were changed/);
  expect(stderr).toContain("lengthen --warmup-epochs (now 2)");
});
