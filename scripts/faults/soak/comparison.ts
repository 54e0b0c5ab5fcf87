import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import { readRunLog, RunLogError, type StepEntry } from "../../../lib/report/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { STEPS } from "./trainings.js";

/** How far two runs' ends are from each other. */
export interface Distance {
  /** Norm of the difference of all weights and statistics over their norm. */
  weights: number;
  /** The largest difference of two losses of a step, over the loss. */
  losses: number;
}

/** What is wrong with the end of a disturbed run that should be that of the undisturbed one to the byte. */
export function differences(disturbed: string, undisturbed: string): string[] {
  const names = readdirSync(undisturbed).filter((name) => name.endsWith(".tar")).sort();
  const found = readdirSync(disturbed).filter((name) => name.endsWith(".tar")).sort();
  if (names.join() !== found.join()) return [`the checkpoints are ${found.join(", ")} and should be ${names.join(", ")}`];
  const differing = names.filter((name) => !readFileSync(join(disturbed, name)).equals(readFileSync(join(undisturbed, name))));
  return differing.map((name) => `${name} has other bytes`);
}

/** What is wrong with the log of a disturbed run that is done: each step must be there once, with the undisturbed run's loss. */
export function logViolations(disturbed: string, undisturbed: string, compares: boolean): string[] {
  const [steps, expected] = [disturbed, undisturbed].map((folder) => readRunLog(join(folder, "log.jsonl")).steps) as [StepEntry[], StepEntry[]];
  const numbers = steps.map(({ step }) => step).join();
  if (numbers !== Array.from({ length: STEPS }, (_, i) => i).join()) return [`the log has the steps ${numbers}`];
  const other = compares ? steps.find(({ loss }, i) => loss !== expected[i]!.loss) : undefined;
  return other === undefined ? [] : [`the log has another loss at step ${other.step}: ${other.loss}`];
}

/** What is wrong with the log of a run in its middle. */
export function unreadableLog(folder: string): string[] {
  const path = join(folder, "log.jsonl");
  if (!existsSync(path)) return [];
  try {
    const numbers = readRunLog(path).steps.map(({ step }) => step);
    return numbers.some((step, i) => i > 0 && step <= numbers[i - 1]!) ? [`the log has steps twice or out of order: ${numbers.join()}`] : [];
  } catch (error) {
    // Nothing of it may have reached the disk before the first checkpoint.
    const begins = readdirSync(folder).some((name) => name.startsWith("checkpoint_"));
    if (error instanceof RunLogError && !begins && error.message.includes("no line that begins a run")) return [];
    return [`the log cannot be read: ${(error as Error).message}`];
  }
}

/** How far the ends of two runs are from each other that differ in the order of their sums. */
export async function distanceBetween(disturbed: string, undisturbed: string, name: string): Promise<Distance> {
  const [a, b] = [await weightsOf(join(disturbed, name)), await weightsOf(join(undisturbed, name))];
  let [difference, norm] = [0, 0];
  for (const [key, x] of a.state_dict) {
    if (!x.dtype.startsWith("float")) continue;
    torch.scope(() => {
      const y = b.state_dict.get(key)!.to("float64");
      norm += (y.norm().item() as number) ** 2;
      difference += (x.to("float64").sub(y).norm().item() as number) ** 2;
    });
  }
  disposeTensors(a);
  disposeTensors(b);
  const [first, second] = [disturbed, undisturbed].map((folder) => readRunLog(join(folder, "log.jsonl")).steps) as [StepEntry[], StepEntry[]];
  const losses = Math.max(...first.map(({ loss }, i) => Math.abs(loss - second[i]!.loss) / second[i]!.loss));
  return { weights: Math.sqrt(difference / norm), losses };
}

function weightsOf(path: string): Promise<{ state_dict: Map<string, Tensor> }> {
  return readCheckpoint<{ state_dict: Map<string, Tensor> }>(path);
}
