import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { readRunLog } from "../../lib/report/index.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { writeFinetuneFiles } from "../train/finetuneRun.js";
import { startCommand, startMoco, type Outcome } from "./moco.js";

const root = temporaryFolder("cli-finetune");
const small = "--heads 4 -b 48 --epochs 2 --warmup-epochs 1 --lr 0.02 --threads 1 -j 1 --device cpu --seed 3 -p 1".split(" ");
const begin = ["digits", "--pretrained", "encoder.pth", ...small];

beforeAll(async () => {
  await writeFinetuneFiles(root, 250);
});

const moco = (words: readonly string[], options = {}): Promise<Outcome> => startMoco(["finetune", ...words], { cwd: root, ...options });

describe("wrong usage ends with 2, failure with 1, before anything is written", () => {
  test.each<[string, string[], number, RegExp]>([
    ["no folder named", small, 2, /missing required argument 'DIR'/],
    ["nothing to begin with", ["digits", ...small], 2, /nothing says what to fine-tune: .*--pretrained.*--arch/],
    ["a value out of range", ["digits", "--drop-path", "1"], 2, /'1' is invalid. It takes a number of at least 0 and below 1/],
    ["betas that are none", ["digits", "--opt-betas", "0.9"], 2, /It takes two numbers/],
    ["an unknown policy", [...begin, "--aa", "v0"], 2, /"v0": only RandAugment is known/],
    ["a size that does not fit", [...begin, "--image-size", "18"], 2, /18x18 is not divisible by patchSize 4/],
    ["an evaluation of nothing", ["digits", "--eval", ...small], 2, /--eval needs a classifier/],
    ["two beginnings", [...begin, "--resume", "x"], 2, /--pretrained begins a new run and --resume goes on/],
    ["an unknown key in the configuration", ["digits", "--config", "bad.json"], 2, /bad.json: "batchsize" is no flag of finetune/],
    ["a folder that is not there", ["nowhere", ...begin.slice(1)], 1, /there is no folder .*nowhere/],
    ["no checkpoint", ["digits", "--pretrained", "nowhere.pth", ...small], 1, /there is no checkpoint nowhere.pth/],
    ["another architecture", [...begin, "-a", "resnet50"], 1, /encoder.pth holds an encoder that has no name, and resnet50 was asked for/],
  ])("%s", async (_, words, code, message) => {
    writeFileSync(join(root, "bad.json"), '{"batchsize": 4}');
    const outcome = await moco(words);
    expect(outcome).toMatchObject({ code, stdout: "" });
    expect(outcome.stderr).toMatch(message);
    expect(readdirSync(root)).not.toContain("runs");
  });
});

test("a run: progress on stderr, the result on stdout; --eval gives it again", async () => {
  const outcome = await moco([...begin, "--model-ema", "--model-ema-decay", "0.9", "--out", "one", "--json"]);
  expect(outcome.stderr).toMatch(/custom on cpu: 200 images in digits at 16x16, 2 epochs of 4 steps of 48, fp32, seed 3. Writing to one/);
  expect(outcome.stderr).toMatch(/^epoch 2\/2 {2}step 4\/4 {2}loss \d+\.\d{4} {2}lr .* img\/s {2}wait \d+% {2}left 0s$/m);
  expect(outcome.stderr).toMatch(/^epoch 1\/2 {2}acc@1 .* {2}acc@5 .* {2}loss .* {2}average of the weights: acc@1 .* {2}acc@5 .* {2}loss .* {2}the best so far$/m);
  expect(outcome.code).toBe(0);
  const result = JSON.parse(outcome.stdout) as { acc1: number; acc5: number; average: object };
  expect(result).toMatchObject({ reason: "finished", checkpoint: "one/checkpoint.pth.tar", best: "one/model_best.pth.tar", out: "one", steps: 8, classes: 10, badImages: [], resume: null });
  expect(readdirSync(join(root, "one")).sort()).toEqual(["checkpoint.pth.tar", "log.jsonl", "model_best.pth.tar"]);
  const { runs } = readRunLog(join(root, "one", "log.jsonl"));
  expect(runs[0]).toMatchObject({ images: 200, stepsPerEpoch: 4, options: { lr: (0.02 * 48) / 512, averageDecay: 0.9, dropPath: 0.1, imageSize: [16, 16] } });

  const again = await moco(["digits", "--eval", "--resume", "one", "-b", "48", "--json"]);
  const { acc1, acc5, average } = result;
  expect(JSON.parse(again.stdout)).toMatchObject({ acc1, acc5, average, images: 50, epochs: 2, checkpoint: "one/checkpoint.pth.tar" });
  const shown = await moco(["digits", "--eval", "--resume", "one/model_best.pth.tar", "--image-size", "24"]);
  expect(shown.stdout).toMatch(/^acc@1 .* {2}acc@5 .* {2}loss .* {2}average of the weights: .*\n$/);
});

test("SIGTERM saves in the middle of an epoch; the printed command goes on; so does --stop-after", async () => {
  let sent = false;
  const stopped = await moco([...begin, "--epochs", "1000", "--out", "two"], {
    onStderr: (text: string, child: { kill(signal: string): boolean }) => {
      if (!sent && text.includes("step 2/4")) sent = child.kill("SIGTERM");
    },
  });
  expect([stopped.code, stopped.signal]).toEqual([0, null]);
  expect(stopped.stderr).toContain("SIGTERM: finishing this step, then saving.");
  expect(stopped.stdout).toMatch(/^(acc@1 .*\n)?two\/checkpoint.pth.tar\n$/);
  const { steps } = readRunLog(join(root, "two", "log.jsonl"));
  const command = /Go on with:\n {2}(.*)\n/.exec(stopped.stderr)![1]!;
  expect(command).toMatch(/ finetune --resume two digits -b 48/);
  const on = await startCommand("sh", ["-c", `${command} --stop-after 1 --quiet`], { cwd: root });
  expect([on.code, on.stderr]).toEqual([0, expect.stringMatching(/^Stopped as --stop-after asks after 1 step\./)]);
  const log = readRunLog(join(root, "two", "log.jsonl"));
  expect(log.runs[1]).toMatchObject({ firstStep: steps.length, resumedFrom: "two/checkpoint.pth.tar" });
  expect(log.steps.map(({ step }) => step)).toEqual(Array.from({ length: steps.length + 1 }, (_, i) => i));
});
