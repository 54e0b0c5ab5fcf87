/** Entries of a log as a training tells them. */
import type { EndEntry, EvaluationEntry, KnnEntry, RunEntry, StepEntry } from "../../lib/report/index.js";

export function runEntry(changes: Partial<RunEntry> = {}): RunEntry {
  return {
    kind: "run", started: "2026-01-02T03:04:05.678Z", options: { arch: "vit_tiny", lr: 0.1, mCos: true, betas: [0.9, 0.95], mixing: { alpha: 0.8 }, out: null },
    versions: { "moco-v3": "0.0.0", node: "20", libtorch: "2.11.0" }, device: "cpu", images: 13, epochs: 4, stepsPerEpoch: 3, firstStep: 0, resumedFrom: null,
    ...changes,
  };
}

/** Its loss is 10 less its number, its rate a hundredth of the number. */
export function stepEntry(step: number, changes: Partial<StepEntry> = {}): StepEntry {
  return {
    kind: "step", step, epoch: Math.floor(step / 3), stepInEpoch: step % 3, loss: 10 - step, lr: step / 100, momentum: 0.99, gradientNorm: 2, imagesPerSecond: 40,
    dataWaitMs: 1, stepMs: 100, scale: 1, ...changes,
  };
}

export const watched: Partial<StepEntry> = {
  signals: {
    gradients: { stem: null, blocks: [1, 2], projector: 3, predictor: 4 }, firstBlockRatio: 0.5,
    contrast: { accuracy: 50, positive: 0.5, negative: 0, querySpread: 1, keySpread: 0.9, lossOverChance: 0.7 },
    alerts: ['stem ×12, "sharp"', "collapse"],
  },
};

export function knnEntry(epoch: number): KnnEntry {
  return { kind: "knn", epoch, k: 20, acc1: 10 * epoch, acc5: 90, gallery: 9, queries: 4, leaveOneOut: false, seconds: 1 };
}

export function evaluationEntry(epoch: number): EvaluationEntry {
  return { kind: "evaluation", epoch, acc1: 40, acc5: 80, loss: 1.5, images: 9, best: true, average: { acc1: 41, acc5: 81, loss: 1.4 } };
}

export function endEntry(reason: EndEntry["reason"] = "finished"): EndEntry {
  return { kind: "end", reason, seconds: 3 };
}
