import { join } from "node:path";
import { writeCheckpoint } from "../../checkpoint/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Recipe } from "../pretrainOptions.js";
import { NonFiniteError } from "../runs/finiteGuard.js";
import { trainingStateValue, type RunFacts, type Trainee } from "../runs/trainingState.js";
import type { WatchedStep } from "./stepWatch.js";

/** Where a checkpoint has the step that stopped the run. */
export const FAILED_STEP_KEY = "failed_step";

/** A step that was not made because a value in it is not finite. */
export interface FailedStep {
  step: number;
  what: NonFiniteError["what"];
  message: string;
  lr: number;
  /** Of the momentum encoder. */
  momentum: number;
  precision: string;
  device: string;
  /** The gradient scaler's. */
  scale: number;
  /** The views `[N, 3, H, W]` as the network got them. */
  x1: Tensor;
  x2: Tensor;
  indices: number[];
  names: string[];
}

/** File name for a step's number. */
export function failedStepName(step: number): string {
  return `failed_step_${String(step).padStart(6, "0")}.pth.tar`;
}

/**
 * Saves a step that the guard has refused in the run's folder, as a checkpoint of the state before it (the guard has put back what had
 * changed) with the batch beside it.
 *
 * @returns the error to throw: as it was, with the file's name or why there is none
 */
export async function saveFailedStep(
  error: NonFiniteError, step: WatchedStep, names: readonly string[], recipe: Recipe, facts: RunFacts, trainee: Trainee,
): Promise<NonFiniteError> {
  const { what, epoch } = error;
  const told = (text: string, replay: string | null): NonFiniteError =>
    new NonFiniteError(`${error.message}\n${text}`, what, step.step, epoch, replay);
  if (recipe.out === null) return told("The batch is not saved, as the run has no folder; with --out it is, for moco pretrain --replay.", null);
  const path = join(recipe.out, failedStepName(step.step));
  const [x1, x2] = step.batch.views;
  const failed: FailedStep = {
    step: step.step, what, message: error.message, lr: step.lr, momentum: step.momentum, precision: recipe.precision, device: recipe.device,
    scale: trainee.scaler.getScale(), x1, x2, indices: [...step.batch.indices], names: [...names],
  };
  const value = trainingStateValue(trainee, { epoch, step: step.stepInEpoch }, facts, step.bad.map(({ index }) => index));
  try {
    await writeCheckpoint(path, { ...value, [FAILED_STEP_KEY]: failed });
  } catch (cause) {
    return told(`The batch could not be saved for a replay: ${(cause as Error).message}`, null);
  } finally {
    value.moco_v3_run.rng_state.dispose();
  }
  return told(`The batch and the weights before it are saved. See where it happens with: moco pretrain --replay ${path}`, path);
}
