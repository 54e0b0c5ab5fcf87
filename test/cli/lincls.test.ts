import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { readRunLog } from "../../lib/report/index.js";
import { writeDigits } from "../support/digits.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { vit, writeEncoder } from "../train/probeRun.js";
import { startCommand, startMoco, type Outcome } from "./moco.js";

expectNoTensorsLeft();
const root = temporaryFolder("lincls");
/** 320 digits to train on, in five steps. */
const small = "--pretrained encoder.pth.tar -b 64 --epochs 2 --lr 1 --seed 3 --threads 1 -j 1 --device cpu -p 5".split(" ");

beforeAll(async () => {
  await writeDigits(join(root, "digits"), { count: 400, pixels: 16 });
  await writeEncoder(root, vit);
  await cp(join(root, "digits", "train"), join(root, "bare", "train"), { recursive: true });
  mkdirSync(join(root, "photos"));
}, 60_000);

const moco = (words: readonly string[], options = {}): Promise<Outcome> => startMoco(["lincls", ...words], { cwd: root, ...options });

describe("wrong usage ends with 2, failure with 1, before anything is written", () => {
  test.each<[string, string[], number, RegExp]>([
    ["no folder named", [...small], 2, /missing required argument 'DIR'/],
    ["an unknown flag", ["digits", "--pretraind", "x"], 2, /unknown option '--pretraind'/],
    ["an unknown architecture", ["digits", "-a", "vit_smal"], 2, /Unknown architecture "vit_smal"\. Did you mean vit_small/],
    ["machines that do not say which they are", ["digits", ...small, "--world-size", "2"], 2, /--world-size is 2, but neither --rank nor RANK/],
    ["two kinds of learning rate", ["digits", ...small, "--sweep", "1,2"], 2, /--lr and --sweep both give learning rates/],
    ["an unknown key in the configuration", ["digits", "--config", "bad.json"], 2, /bad.json: "batchsize" is no flag of lincls/],
    ["another image size than the encoder's", ["digits", ...small, "--image-size", "32"], 2, /the ViT takes 16 x 16 pixels/],
    ["a folder that is not there", ["nowhere", ...small], 1, /there is no folder .*nowhere/],
    ["no images to judge by", ["bare", ...small], 1, /bare has no images to judge by.*--val/],
    ["no checkpoint", ["digits", "--pretrained", "nowhere"], 1, /no checkpoint nowhere/],
    ["a checkpoint of another architecture", ["digits", ...small, "-a", "vit_small"], 1, /--arch asks for vit_small; leave --arch out/],
  ])("%s", async (_, words, code, message) => {
    writeFileSync(join(root, "bad.json"), '{"batchsize": 4}');
    const outcome = await moco(words);
    expect(outcome).toMatchObject({ code, stdout: "" });
    expect(outcome.stderr).toMatch(message);
    expect(readdirSync(root)).not.toContain("runs");
  });
});

test("a run: progress on stderr, the result on stdout, upstream's files in the folder", async () => {
  const outcome = await moco(["digits", ...small, "--out", "one"]);
  expect(outcome.code).toBe(0);
  expect(outcome.stderr).toMatch(/^custom on cpu: 320 images of 10 classes in digits, 2 epochs of 5 steps of 64, fp32, seed 3\. Writing to one$/m);
  expect(outcome.stderr).toMatch(/^epoch 1\/2 {2}step 1\/5 {2}loss 2\.\d+ {2}lr 2\.50e-1 {2}acc@1 \d+\.\d% {2}.* img\/s {2}wait \d+% {2}left \d+s$/m);
  expect(outcome.stderr).toMatch(/^features to judge by {2}80\/80$/m);
  expect(outcome.stderr).toMatch(/^epoch 1\/2 {2}acc@1 \d+\.\d{3} {2}acc@5 \d+\.\d{3} {2}loss \d\.\d{4} {2}the best so far$/m);
  expect(outcome.stdout).toMatch(/^acc@1 \d+\.\d{3} {2}acc@5 \d+\.\d{3}, best acc@1 \d+\.\d{3}\none\/model_best\.pth\.tar\n$/);
  expect(readdirSync(join(root, "one")).sort()).toEqual(["checkpoint.pth.tar", "log.jsonl", "model_best.pth.tar"]);

  const evaluated = await moco(["digits", "-e", "--resume", "one", "--device", "cpu", "--quiet", "--json"]);
  const { acc1, acc5, images, classes } = JSON.parse(evaluated.stdout) as Record<string, number>;
  const { evaluations } = readRunLog(join(root, "one", "log.jsonl"));
  expect({ acc1, acc5, images, classes }).toEqual({ acc1: evaluations[1]!.acc1, acc5: evaluations[1]!.acc5, images: 80, classes: 10 });
  expect(evaluated.stderr).toBe("");

  const again = await moco(["digits", ...small, "--out", "one"]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringMatching(/one already holds a run.*--resume one/)]);
});

test("a sweep: a table and JSON, and the best classifier is kept", async () => {
  const words = ["digits", ...small.filter((word, i) => word !== "--lr" && small[i - 1] !== "--lr"), "--sweep", "0.1,1,1e37", "--cache-features"];
  const table = await moco([...words, "--out", "swept", "--quiet"]);
  expect(table.stdout).toMatch(
    /^ {7}lr {3}acc@1 {3}acc@5 {4}best {2}after epoch\n {6}0\.1 +[\d.]+ +[\d.]+ +[\d.]+ +[12]\n {8}1 +[\d.]+ +[\d.]+ +[\d.]+ +[12]\n {4}1e\+37 {2}diverged\nswept\/model_best\.pth\.tar\n$/,
  );
  const { stdout } = await moco([...words, "--out", "swept again", "--json"]);
  const { sweep, bestAcc1, best } = JSON.parse(stdout) as { sweep: { lr: number; scaledLr: number; bestAcc1: number; diverged: boolean }[]; bestAcc1: number; best: string };
  expect(sweep.map(({ lr, scaledLr, diverged }) => [lr, scaledLr, diverged])).toEqual([[0.1, 0.025, false], [1, 0.25, false], [1e37, 2.5e36, true]]);
  expect(bestAcc1).toBe(Math.max(...sweep.map((each) => each.bestAcc1)));
  const evaluated = await moco(["digits", "-e", "--resume", best, "--device", "cpu"]);
  expect(evaluated.stdout).toMatch(new RegExp(`^acc@1 ${bestAcc1.toFixed(3)} `));
  expect(evaluated.stderr).toMatch(/^evaluated {2}80\/80$/m);
});

test("SIGTERM saves in the middle of an epoch; the printed command goes on; so does --stop-after", async () => {
  let sent = false;
  const stopped = await moco(["digits", ...small, "--epochs", "5000", "--out", "two"], {
    onStderr: (text: string, child: { kill(signal: string): boolean }) => {
      if (!sent && text.includes("epoch 2/5000  step 1/5")) sent = child.kill("SIGTERM");
    },
  });
  expect([stopped.code, stopped.signal]).toEqual([0, null]);
  expect(stopped.stderr).toContain("SIGTERM: finishing this step, then saving.");
  expect(stopped.stderr).toMatch(/Stopped by SIGTERM after \d+ steps\. Everything is saved in two\/checkpoint\.pth\.tar\./);
  const { steps } = readRunLog(join(root, "two", "log.jsonl"));
  const command = /Go on with:\n {2}(.*)\n/.exec(stopped.stderr)![1]!;
  const on = await startCommand("sh", ["-c", `${command} --stop-after 1 --quiet --json`], { cwd: root });
  expect(on.code).toBe(0);
  expect(JSON.parse(on.stdout)).toMatchObject({ reason: "stop-after", steps: 1, checkpoint: "two/checkpoint.pth.tar", resume: expect.stringContaining("lincls --resume two") });
  const log = readRunLog(join(root, "two", "log.jsonl"));
  expect(log.runs[1]).toMatchObject({ firstStep: steps.length, resumedFrom: "two/checkpoint.pth.tar" });
  expect(log.steps.map(({ step }) => step)).toEqual(Array.from({ length: steps.length + 1 }, (_, i) => i));
});

test("a run that is stopped before anything is saved says so", async () => {
  let sent = false; // a second signal could end the process after it has given signals back their meaning
  const outcome = await moco(["digits", ...small, "--cache-features", "--out", "three"], {
    onStderr: (text: string, child: { kill(signal: string): boolean }) => {
      if (!sent && text.includes("features to train on")) sent = child.kill("SIGTERM");
    },
  });
  expect(outcome.code).toBe(0);
  if (existsSync(join(root, "three", "checkpoint.pth.tar"))) return; // the signal came after the last batch
  expect(outcome.stderr).toMatch(/Stopped by SIGTERM after 0 steps\. Nothing is saved yet; give the same command again\./);
  rmSync(join(root, "three"), { recursive: true, force: true });
});

test("the command has examples", async () => {
  const { stdout } = await moco(["--help"]);
  expect(stdout).toContain("$ moco lincls imagenet -a vit_small --lr 3 --pretrained vit-s-300ep.pth.tar");
});
