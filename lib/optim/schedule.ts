import { cosine } from "./cosine.js";

/** A schedule asked for a value outside its range. */
export class ScheduleError extends Error {
  override readonly name = "ScheduleError";
}

/** Warm-up and half a cosine, in epochs. */
export interface LearningRateSchedule {
  /** Peak learning rate, already scaled by the batch size (see {@link scaledLearningRate}). */
  lr: number;
  /** Length of the whole run, warm-up included. */
  epochs: number;
  /** Length of the linear warm-up from 0, in epochs; may be fractional or 0. */
  warmupEpochs?: number;
}

/** How the momentum encoder's momentum rises to 1, in epochs. */
export interface MomentumSchedule {
  /** Momentum of the momentum encoder at the start of the run; it ends at 1. */
  momentum: number;
  epochs: number;
}

/** The linear scaling rule of Goyal et al. 2017: a base rate is given for a batch of 256 images. */
export function scaledLearningRate(baseLr: number, batchSize: number): number {
  return (baseLr * batchSize) / 256;
}

/**
 * Learning rate of one step: linear warm-up from exactly 0, then half a cosine cycle down to 0 (MoCo v3, section 4 "Implementation details").
 *
 * @param epoch fractional epoch at the start of the step: `epoch + step / stepsPerEpoch`
 * @throws ScheduleError where the epoch is negative or the run has no length
 * @example learningRateAt(20.5, { lr: 2.4e-3, epochs: 300, warmupEpochs: 40 })
 */
export function learningRateAt(epoch: number, { lr, epochs, warmupEpochs = 0 }: LearningRateSchedule): number {
  requireEpoch(epoch, epochs);
  if (epoch < warmupEpochs) return (lr * epoch) / warmupEpochs;
  return lr * 0.5 * (1 + cosine((Math.PI * (epoch - warmupEpochs)) / (epochs - warmupEpochs)));
}

/**
 * Momentum of one step where a cosine schedule is wanted: from `momentum` at the start up to 1 at the end.
 *
 * @param epoch fractional epoch at the start of the step
 * @throws ScheduleError where the epoch is negative or the run has no length
 */
export function momentumAt(epoch: number, { momentum, epochs }: MomentumSchedule): number {
  requireEpoch(epoch, epochs);
  return 1 - 0.5 * (1 + cosine((Math.PI * epoch) / epochs)) * (1 - momentum);
}

/**
 * Learning rate of the linear probe: half a cosine cycle without warm-up, constant within an epoch.
 *
 * @param epoch whole epoch, from 0
 * @throws ScheduleError where the epoch is negative or the run has no length
 */
export function probeLearningRateAt(epoch: number, { lr, epochs }: { lr: number; epochs: number }): number {
  requireEpoch(epoch, epochs);
  return lr * 0.5 * (1 + cosine((Math.PI * epoch) / epochs));
}

/** Learning rates of a fine-tuning, in epochs. */
export interface FineTuningSchedule extends LearningRateSchedule {
  /** Rate at which the warm-up begins. */
  warmupLr: number;
  /** Rate that the cosine falls to. */
  minLr: number;
}

/**
 * Learning rate of fine-tuning as DeiT's recipes have it (timm's cosine schedule): a linear warm-up from `warmupLr`, then the half cosine
 * from `lr` to `minLr` that spans the whole run, warm-up included, so that its beginning is passed over.
 *
 * @param epoch fractional epoch at the start of the step; DeiT itself takes whole ones, `max(0, epoch - 1)` all through an epoch
 * @throws ScheduleError where the epoch is negative or the run has no length
 * @example fineTuningRateAt(4.5, { lr: 1e-3, epochs: 100, warmupEpochs: 5, warmupLr: 1e-6, minLr: 1e-5 })
 */
export function fineTuningRateAt(epoch: number, { lr, epochs, warmupEpochs = 0, warmupLr, minLr }: FineTuningSchedule): number {
  requireEpoch(epoch, epochs);
  if (epoch < warmupEpochs) return warmupLr + (epoch * (lr - warmupLr)) / warmupEpochs;
  return epoch < epochs ? minLr + 0.5 * (lr - minLr) * (1 + cosine((Math.PI * epoch) / epochs)) : minLr;
}

function requireEpoch(epoch: number, epochs: number): void {
  if (!(epochs > 0)) throw new ScheduleError(`a run of ${epochs} epochs has no schedule; give a positive number of epochs`);
  if (!(epoch >= 0)) throw new ScheduleError(`epoch ${epoch} lies before the run; epochs count from 0`);
}
