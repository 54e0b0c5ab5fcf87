/** Fine-tuning in several processes is that of one, as far as images are not mixed and no branch is dropped by chance. */
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { freePort } from "../../scripts/exactness/runRanks.js";
import { readRunLog } from "../../lib/report/index.js";
import { mainScript, startCommand, type Outcome } from "../cli/moco.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { writeFinetuneFiles } from "../train/finetuneRun.js";

expectNoTensorsLeft();
const folder = temporaryFolder("finetune-ranks");
const environment = `NODE_OPTIONS=--import=${new URL("../../scripts/faults/soak/tinyArchitectures.js", import.meta.url).href}`;
const common = "-b 48 --epochs 2 --warmup-epochs 1 --opt sgd --threads 1 -j 1 --device cpu --seed 3 --json --quiet".split(" ");
const plain = "--mixup 0 --cutmix 0 --drop-path 0".split(" ");
const vit = ["--pretrained", "encoder.pth", "--heads", "4", "--lr", "4", "--layer-decay", "0.8", "--model-ema", "--model-ema-decay", "0.9"];
const resnet = ["-a", "resnet_tiny", "--image-size", "32", "--lr", "2"];

interface Found {
  reason: string;
  acc1: number;
  loss: number;
  steps: number;
  average: { loss: number } | null;
  images: number;
}

beforeAll(async () => {
  await writeFinetuneFiles(folder, 250);
});

const run = (words: string[], out: string): Promise<Outcome> => {
  return startCommand("env", [environment, process.execPath, mainScript, "finetune", "digits", ...common, ...words, ...(out === "" ? [] : ["--out", out])], { cwd: folder });
};

/** What the first of the processes says; the others say nothing. */
async function together(processes: number, words: string[], out: string): Promise<Found> {
  const port = await freePort();
  const placement = (rank: number): string[] => (processes === 1 ? [] : `--dist-url tcp://127.0.0.1:${port} --world-size ${processes} --rank ${rank}`.split(" "));
  const outcomes = await Promise.all(Array.from({ length: processes }, (_, rank) => run([...words, ...placement(rank)], out)));
  for (const { code, stderr } of outcomes) if (code !== 0) throw new Error(`exit code ${code}\n${stderr}`);
  expect(outcomes.slice(1).map(({ stdout }) => stdout)).toEqual(outcomes.slice(1).map(() => ""));
  return JSON.parse(outcomes[0]!.stdout) as Found;
}

function expectAsOne(out: string, one: string, found: Found, expected: Found): void {
  const [losses, wanted] = [out, one].map((name) => readRunLog(join(folder, name, "log.jsonl")).steps.map(({ loss }) => loss)) as [number[], number[]];
  expect(losses).toHaveLength(8);
  losses.forEach((loss, i) => expect(Math.abs(loss / wanted[i]! - 1)).toBeLessThan(1e-5)); // float32
  expect(Math.max(...wanted.map((loss) => Math.abs(loss / wanted[0]! - 1)))).toBeGreaterThan(5e-3); // it has learned what could differ
  expect(Math.abs(found.acc1 - expected.acc1)).toBeLessThanOrEqual(2); // of 50 images
  expect(Math.abs(found.average === null ? 0 : found.average.loss / expected.average!.loss - 1)).toBeLessThan(1e-4);
}

test("a ViT with layer decay and averaged weights, stopped in two processes and finished in one; evaluated in three", async () => {
  const [expected] = await Promise.all([
    together(1, [...vit, ...plain], "one"),
    together(2, [...vit, ...plain, "--stop-after", "3"], "two").then(({ reason, steps }) => expect([reason, steps]).toEqual(["stop-after", 3])),
  ]);
  const found = await together(1, ["--resume", "two", ...vit.slice(2), ...plain], "two");
  expectAsOne("two", "one", found, expected);
  expect(readRunLog(join(folder, "two", "log.jsonl")).runs.map(({ options }) => options.worldSize)).toEqual([2, 1]);
  const again = await together(3, ["--eval", "--resume", "two"], "");
  expect([again.images, again.acc1]).toEqual([50, found.acc1]);
}, 240_000);

test("a ResNet, whose BatchNorm sees the whole batch", async () => {
  const [expected, found] = await Promise.all([together(1, [...resnet, ...plain], "resnet-one"), together(3, [...resnet, ...plain], "resnet-three")]);
  expectAsOne("resnet-three", "resnet-one", found, expected);
}, 240_000);

test("DeiT's whole recipe, each process with draws of its own for stochastic depth; launched", async () => {
  const launched = await startCommand(process.execPath, [
    mainScript, "launch", "--nproc", "2", "--", "finetune", "digits", ...common, ...vit, "--drop-path", "0.3", "--out", "deit", "--stop-after", "2",
  ], { cwd: folder });
  if (launched.code !== 0) throw new Error(launched.stderr);
  expect(JSON.parse(launched.stdout)).toMatchObject({ reason: "stop-after", steps: 2 });
  const { steps, runs } = readRunLog(join(folder, "deit", "log.jsonl"));
  expect(steps.map(({ loss }) => Number.isFinite(loss))).toEqual([true, true]);
  expect(runs[0]!.options).toMatchObject({ worldSize: 2, dropPath: 0.3 });
}, 240_000);
