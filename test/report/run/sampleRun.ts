/** Logs of runs as trainings write them, made up: figures are whole numbers or follow a formula. */
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { RUN_LOG, type LogEntry, type RunEntry, type StepEntry } from "../../../lib/report/index.js";

export const runEntry = (changes: Partial<RunEntry> = {}): RunEntry => ({
  kind: "run", started: "2026-01-02T03:04:05.000Z", options: { encoder: "vit_small", temperature: 0.2, batchSize: 64, lr: 0.15, optimizer: "adamw" },
  versions: { "moco-v3": "0.1.0", node: "20.19.0", libtorch: "2.11.0" }, device: "cpu", images: 640, epochs: 4, stepsPerEpoch: 10, firstStep: 0,
  resumedFrom: null, ...changes,
});

export const stepEntry = (step: number, changes: Partial<StepEntry> = {}): StepEntry => ({
  kind: "step", step, epoch: Math.floor(step / 10), stepInEpoch: step % 10, loss: 4 - step / 50, lr: 0.001 * step, momentum: 0.99,
  gradientNorm: 2 + (step % 7) / 10, imagesPerSecond: 100, dataWaitMs: 5, stepMs: 500, scale: 1, ...changes,
});

/** Signals as those of a watched ViT. */
export const signals: StepEntry["signals"] = {
  gradients: { stem: 1, blocks: [0.5, 0.4, 0.3], projector: 2, predictor: 3 }, stemRatio: 2.5, firstBlockRatio: 1.25, encoderDistance: 0.01,
  contrast: { accuracy: 50, positive: 0.8, negative: 0.01, querySpread: 0.99, keySpread: 1, lossOverChance: 0.7 },
};

export const steps = (from: number, to: number, changes: Partial<StepEntry> = {}): StepEntry[] =>
  Array.from({ length: to - from }, (_, i) => stepEntry(from + i, changes));

/** What a log could try to do to a page. */
export const hostile = `"><img src=x onerror="document.title='broken'"></script><script>document.title='broken'</script>\u202e`;

/** A run that has everything: signals, epochs' figures, warnings, spikes, bad images, a resumption; it failed. */
export function fullRun(): LogEntry[] {
  return [
    runEntry(), ...steps(0, 15, { signals }),
    { kind: "badImage", path: `a${hostile}.jpg`, reason: "cut <b>off</b>" },
    { kind: "checkpoint", file: "checkpoint_0000.pth.tar", steps: 10, stallMs: 1, totalMs: 2 },
    { kind: "knn", epoch: 0, k: 20, acc1: 30, acc5: 60, gallery: 100, queries: 100, leaveOneOut: true, seconds: 1 },
    runEntry({ firstStep: 10, resumedFrom: "runs/full/checkpoint_0000.pth.tar" }), ...steps(10, 30, { signals }),
    { kind: "warning", step: 22, what: "collapse", message: `All look alike ${hostile}` },
    stepEntry(30, { signals: { alerts: ["gradient of the first layer ×14"] }, action: "skipped" }),
    { kind: "knn", epoch: 1, k: 20, acc1: 40, acc5: 70, gallery: 100, queries: 100, leaveOneOut: true, seconds: 1 },
    { kind: "end", reason: "failed", message: `not finite ${hostile}\nmoco pretrain --replay file`, seconds: 9 },
  ];
}

/** Appends entries to the log of a run in a folder, which is made if need be. */
export function writeLog(folder: string, entries: readonly LogEntry[]): string {
  mkdirSync(folder, { recursive: true });
  appendFileSync(join(folder, RUN_LOG), entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
  return folder;
}
