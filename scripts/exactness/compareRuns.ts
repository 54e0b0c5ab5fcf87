import { disposeTensors, readCheckpoint } from "../../lib/checkpoint/index.js";
import type { Tensor } from "../../lib/torch/index.js";

/** What a training came to, in float64. */
export interface Run {
  losses: number[];
  initial: Map<string, Float64Array>;
  final: Map<string, Float64Array>;
}

/** How far two runs are apart; all relative. */
export interface Distance {
  /** The losses of all steps: the largest. */
  loss: number;
  /** All weights and statistics as one vector: norm of the difference over the norm. */
  weights: number;
  /** The same over the way that the training went from its start: what it has learned. */
  learned: number;
  /** The tensor that is furthest off: its difference over its norm, or over 0.001 for each root of an element where it is smaller. */
  worstTensor: number;
  worstKey: string;
}

/** Reads what a process has written. */
export async function readRun(path: string): Promise<Run> {
  const value = await readCheckpoint<{ losses: number[]; initial: Record<string, Tensor>; final: Record<string, Tensor> }>(path);
  try {
    return { losses: value.losses, initial: numbersOf(value.initial), final: numbersOf(value.final) };
  } finally {
    disposeTensors(value);
  }
}

function numbersOf(state: Record<string, Tensor>): Map<string, Float64Array> {
  return new Map(Object.entries(state).map(([key, tensor]) => [key, Float64Array.from(tensor.data() as ArrayLike<number | bigint>, Number)]));
}

/** Compares a run of several processes with that of one. */
export function distance(run: Run, reference: Run): Distance {
  const sums = { difference: 0, norm: 0, way: 0 };
  let [worstTensor, worstKey] = [0, ""];
  for (const [key, expected] of reference.final) {
    const [actual, before] = [run.final.get(key)!, reference.initial.get(key)!];
    const own = { difference: 0, norm: 0, way: 0 };
    expected.forEach((value, i) => {
      own.difference += (actual[i]! - value) ** 2;
      own.norm += value ** 2;
      own.way += (value - before[i]!) ** 2;
    });
    const off = Math.sqrt(own.difference) / Math.max(Math.sqrt(own.norm), 1e-3 * Math.sqrt(expected.length));
    if (!(off <= worstTensor)) [worstTensor, worstKey] = [off, key];
    if (key.endsWith(".num_batches_tracked")) continue; // counts, which would hide the rest
    for (const name of ["difference", "norm", "way"] as const) sums[name] += own[name];
  }
  if (run.losses.length !== reference.losses.length) throw new Error(`${run.losses.length} steps were done, and by one process ${reference.losses.length}`);
  return {
    loss: Math.max(...reference.losses.map((loss, step) => Math.abs(run.losses[step]! / loss - 1))),
    weights: Math.sqrt(sums.difference / sums.norm),
    learned: Math.sqrt(sums.difference / sums.way),
    worstTensor, worstKey,
  };
}
