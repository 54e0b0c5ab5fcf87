/**
 * What the loggers cost: pre-trains a ViT-S on the CPU for a few steps of an epoch that stands for a longer one, with and without TensorBoard and
 * CSV logs, and prints the milliseconds of each part and their share of an epoch as JSON.
 *
 *     npm run -s bootstrap && node dist/scripts/loggingCost.js [images of an epoch, default 1000]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMoCo } from "../lib/moco/index.js";
import { CsvLogger, Loggers, TensorBoardLogger, type StepEntry } from "../lib/report/index.js";
import * as torch from "../lib/torch/index.js";
import { TensorLog } from "../lib/train/runs/tensorLog.js";

const BATCH = 32;
const epochImages = Number(process.argv[2] ?? 1000);
const stepsPerEpoch = Math.floor(epochImages / BATCH);
const folder = mkdtempSync(join(tmpdir(), "moco-logging-cost-"));

try {
  torch.retainFreedMemory();
  torch.manualSeed(0);
  const moco = createMoCo({ encoder: "vit_small", dim: 256, mlpDim: 4096, temperature: 0.2 });
  const [x1, x2] = [0, 1].map(() => torch.randn([BATCH, 3, 224, 224])) as [torch.Tensor, torch.Tensor];
  const trainStep = (): void => torch.scope(() => {
    moco.forward(x1, x2, 0.99).backward();
    for (const parameter of moco.parameters()) parameter.grad = null;
  });
  const stepMs = median(Array.from({ length: 4 }, () => timed(trainStep)).slice(1)); // without the optimiser: the share is an upper bound

  const warn = (message: string): void => console.error(message);
  const loggers = new Loggers([new TensorBoardLogger(), new CsvLogger()], { folder, warn });
  const options = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`option${i}`, i]));
  loggers.log({
    kind: "run", started: "", options, versions: {}, device: "cpu", images: epochImages, epochs: 1, stepsPerEpoch, firstStep: 0, resumedFrom: null,
  });
  const entry: StepEntry = {
    kind: "step", step: 0, epoch: 0, stepInEpoch: 0, loss: 5.123456, lr: 1e-4, momentum: 0.99, gradientNorm: 2.5, imagesPerSecond: 100, dataWaitMs: 1, stepMs: 10,
    scale: 1, signals: {
      gradients: { stem: 1.5, blocks: Array<number>(12).fill(1.25), projector: 1, predictor: 1 }, stemRatio: 1, firstBlockRatio: 1, encoderDistance: 0.01,
      contrast: { accuracy: 50, positive: 0.5, negative: 0.1, querySpread: 1, keySpread: 1, lossOverChance: 0.9 },
    },
  };
  const logMs = timed(() => {
    for (let step = 0; step < 1000; step++) loggers.log({ ...entry, step });
  }) / 1000;

  const every = { loggers: [], imagesEvery: 1, histogramsEvery: 1 };
  const tensorLog = new TensorLog(loggers, every, { network: moco, encoder: moco.baseEncoder, stepsPerEpoch }, warn);
  const place = { step: 0, epoch: 0 };
  const histogramsMs = median(Array.from({ length: 4 }, () => timed(() => tensorLog.afterStep({ ...place, stepInEpoch: stepsPerEpoch - 1 }, [x1, x2]))).slice(1));
  const picturesMs = median(Array.from({ length: 4 }, () => timed(() => tensorLog.afterStep({ ...place, stepInEpoch: 0 }, [x1, x2]))).slice(1));
  await tensorLog.close();
  await loggers.close();

  const epochMs = stepsPerEpoch * stepMs;
  const share = (stepsPerEpoch * logMs + histogramsMs + picturesMs / 10) / epochMs;
  console.log(JSON.stringify({ threads: torch.getNumThreads(), epochImages, stepMs, logMs, histogramsMs, picturesMs, epochMs, share }, null, 2));
  for (const each of [moco, x1, x2]) each.dispose();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}
