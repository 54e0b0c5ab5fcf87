// Our side of the benchmarks of training: `pretrain` itself, a step for each that is asked for. Each line of input is one request in JSON.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { TwoViewLoader, type TwoViewBatch } from "../../../lib/data/index.js";
import * as torch from "../../../lib/torch/index.js";
import { pretrain } from "../../../lib/train/pretrain.js";
import { processMemory } from "../processMemory.js";
import type { StepsAnswer, StepsRequest, TrainingSettings } from "../pretrainingProtocol.js";

const settings = JSON.parse(process.argv[2] as string) as TrainingSettings;
const out = process.argv[3];
const { batch: batchSize, imageSize, folder, device } = settings;
/** More steps than anybody asks for, so that the epoch does not end. */
const STEPS = 4096;

const paths = folder === null ? ["none"] : readdirSync(join(folder, "all")).sort().map((name) => join(folder, "all", name));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let loss = NaN;

function syntheticBatch(): TwoViewBatch {
  const shape = [batchSize, 3, imageSize, imageSize];
  const views = torch.scope(() => [0, 1].map(() => torch.keep(torch.randn(shape, { device })))) as [torch.Tensor, torch.Tensor];
  const indices = Array.from({ length: batchSize }, (_, row) => row);
  return { views, indices, labels: indices.map(() => null), step: 0, waitMs: 0, [Symbol.dispose]: () => undefined };
}

function peakBytes(): number {
  return device === "cpu" ? processMemory("self").peak : torch.deviceMemory(device).peakAllocated;
}

const load = TwoViewLoader.prototype.epoch;
/**
 * What the loop gets its batches from: those of the loader, or the same random numbers. It hands out as many as are asked for; when the loop comes for
 * another one, the step of the one before is done.
 */
TwoViewLoader.prototype.epoch = async function* (this: TwoViewLoader, epoch, startStep) {
  const photographs = load.call(this, epoch, startStep) as AsyncGenerator<TwoViewBatch, void, undefined>;
  const synthetic = syntheticBatch();
  for (;;) {
    const { value: line, done } = await lines.next();
    if (done) return;
    const { views, steps } = JSON.parse(line) as StepsRequest;
    const start = performance.now();
    for (let step = 0; step < steps; step++) yield views === "synthetic" ? synthetic : ((await photographs.next()).value as TwoViewBatch);
    const answer: StepsAnswer = { seconds: (performance.now() - start) / 1000 / steps, loss, peakBytes: peakBytes() };
    console.log(JSON.stringify(answer));
  }
};

await pretrain(
  {
    data: { length: STEPS * batchSize, image: (index) => paths[index % paths.length]! }, encoder: settings.arch, imageSize, batchSize,
    mlpDim: settings.mlpDim, optimizer: settings.optimizer, stopGradConv1: settings.stopGradConv1, temperature: settings.temperature,
    lr: settings.optimizer === "adamw" ? 1e-4 : 0.1, weightDecay: settings.optimizer === "adamw" ? 0.1 : 1e-6, epochs: 1, warmupEpochs: 0, seed: 0,
    threads: settings.threads, workers: settings.workers, device, precision: settings.precision, out,
  },
  { onStep: (step) => (loss = step.loss), onWarning: (message) => console.error(message) },
);
