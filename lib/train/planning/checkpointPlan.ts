import type { Recipe } from "../pretrainOptions.js";

/** One line of the log, on average: 290 to 310 bytes in runs of all architectures. */
export const LOG_BYTES_PER_STEP = 300;

export interface CheckpointPlan {
  bytes: number;
  /** To write one, beside the training. */
  seconds: number;
  /** Files that are there at the end. */
  kept: number;
  /** Of all files, the one that is being written and the log. */
  diskBytes: number;
  logBytes: number;
}

/** Checkpoints of whole epochs that a finished run leaves, by the rules of `--keep` and `--keep-every`. */
export function keptCheckpoints(
  { epochs, saveEveryEpochs, keep, keepEvery }: Pick<Recipe, "epochs" | "saveEveryEpochs" | "keep" | "keepEvery">,
): number {
  const due = Array.from({ length: epochs }, (_, i) => i + 1).filter((epoch) => epoch === epochs || epoch % saveEveryEpochs === 0);
  if (keep === null && keepEvery === null) return due.length;
  const newest = new Set(due.slice(-(keep ?? 1)));
  return due.filter((epoch) => newest.has(epoch) || (keepEvery !== null && epoch % keepEvery === 0)).length;
}

export function planCheckpoints(recipe: Recipe, bytes: number, steps: number, bytesPerSecond: number): CheckpointPlan {
  const kept = keptCheckpoints(recipe);
  const logBytes = steps * LOG_BYTES_PER_STEP;
  return { bytes, seconds: bytes / bytesPerSecond, kept, logBytes, diskBytes: (kept + 1) * bytes + logBytes };
}
