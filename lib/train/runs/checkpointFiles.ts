import { lstatSync, readlinkSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { isModelFolder } from "../../checkpoint/index.js";
import { namesIn } from "../../setup/namesIn.js";

/** Where a run stands: `step` steps of `epoch` are done. */
export interface Position {
  /** Counts from 0. */
  epoch: number;
  step: number;
}

/** A path that should lead to a checkpoint does not. */
export class CheckpointNotFoundError extends Error {
  override readonly name = "CheckpointNotFoundError";
}

/** A run's folder already holds another run. */
export class RunFolderError extends Error {
  override readonly name = "RunFolderError";
}

/** Leads to the checkpoint that was written last. */
export const LAST_CHECKPOINT = "last.pth.tar";
/** Where a training with labels stands; each save replaces it. */
export const CLASSIFIER_CHECKPOINT = "checkpoint.pth.tar";
/** What of such a training had the highest accuracy. */
export const MODEL_BEST = "model_best.pth.tar";

const NAME = /^checkpoint_(\d{4,})(?:_step_(\d{6,}))?\.pth\.tar$/;

/**
 * File name of a checkpoint. The number is that of the epoch which was done last, counted from 0, as upstream names its files; a checkpoint
 * from the middle of an epoch has that epoch's number and the steps done in it.
 *
 * @param position `{ epoch: 3, step: 0 }` gives `checkpoint_0002.pth.tar`, `{ epoch: 3, step: 17 }` `checkpoint_0003_step_000017.pth.tar`
 */
export function checkpointName({ epoch, step }: Position): string {
  // Nothing done at all: there is no last epoch.
  if (step === 0 && epoch > 0) return `checkpoint_${String(epoch - 1).padStart(4, "0")}.pth.tar`;
  return `checkpoint_${String(epoch).padStart(4, "0")}_step_${String(step).padStart(6, "0")}.pth.tar`;
}

/** The position that a checkpoint's name tells, or null for other files. */
export function positionOf(name: string): Position | null {
  const match = NAME.exec(name);
  if (match === null) return null;
  const [, epoch, step] = match;
  return step === undefined ? { epoch: Number(epoch) + 1, step: 0 } : { epoch: Number(epoch), step: Number(step) };
}

/** Orders the names of two checkpoints from the first to the furthest. */
export function byPosition(a: string, b: string): number {
  const [first, second] = [positionOf(a), positionOf(b)];
  if (first === null || second === null) throw new TypeError(`${first === null ? a : b} is not the name of a checkpoint`);
  return first.epoch - second.epoch || first.step - second.step;
}

/** Names of a folder's checkpoints, from the first to the furthest; empty for a folder that does not exist. */
export function checkpointsIn(folder: string): string[] {
  return namesIn(folder).filter((name) => positionOf(name) !== null).sort(byPosition);
}

/**
 * The checkpoint file that a user means by `path`: the file itself; for a folder the furthest checkpoint in it, or what its
 * `last.pth.tar` leads to where it has no other, or the `checkpoint.pth.tar` of a training with labels; for a `last.pth.tar` that is a link
 * the checkpoint that it leads to.
 *
 * A checkpoint gets its name only once it is complete and safe on disk, so the furthest one is not tried out first: one that does
 * not load was damaged later, and the reader's error says so rather than going on from older weights unasked. (`autoResume` asks for it:
 * see resuming.ts.)
 *
 * @throws CheckpointNotFoundError
 */
export function findCheckpoint(path: string): string {
  const about = statSync(path, { throwIfNoEntry: false });
  const remedy = "give a checkpoint file, or the folder of a run";
  if (about === undefined) {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) {
      throw new CheckpointNotFoundError(`there is no checkpoint ${path}; ${remedy}`);
    }
    throw new CheckpointNotFoundError(
      `${path} is a link to ${readlinkSync(path)}, which is not there any more; give the folder of the run, or another checkpoint in it`,
    );
  }
  if (!about.isDirectory()) return basename(path) === LAST_CHECKPOINT ? followed(path) : path;
  const furthest = checkpointsIn(path).at(-1);
  if (furthest !== undefined) return join(path, furthest);
  if (namesIn(path).includes(LAST_CHECKPOINT)) return findCheckpoint(join(path, LAST_CHECKPOINT));
  if (namesIn(path).includes(CLASSIFIER_CHECKPOINT)) return join(path, CLASSIFIER_CHECKPOINT);
  const names = `no checkpoint_*.pth.tar, no ${LAST_CHECKPOINT} and no ${CLASSIFIER_CHECKPOINT}`;
  throw new CheckpointNotFoundError(`the folder ${path} has ${names}; ${remedy}`);
}

/** Where a link leads, so that messages and logs tell the checkpoint's own name. */
function followed(path: string): string {
  if (!lstatSync(path).isSymbolicLink()) return path;
  const target = readlinkSync(path);
  return isAbsolute(target) ? target : join(dirname(path), target);
}

/**
 * Makes sure that a run does not mix its checkpoints with those of another.
 *
 * @param resumedFrom checkpoint that the run goes on from; one in the same folder makes it the same run
 * @throws RunFolderError
 */
export function requireFreshFolder(folder: string, resumedFrom: string | null = null): void {
  if (resumedFrom !== null && resolve(dirname(resumedFrom)) === resolve(folder)) return;
  const found = checkpointsIn(folder).at(-1) ?? namesIn(folder).find((name) => [LAST_CHECKPOINT, CLASSIFIER_CHECKPOINT, MODEL_BEST].includes(name));
  if (found === undefined) return;
  throw new RunFolderError(
    `${folder} already holds a run (${found}); go on with it by --resume ${folder}, or give another folder with --out`,
  );
}

/**
 * What a user means by `path` where any encoder will do: as `findCheckpoint`, and a folder with a model of Hugging Face's stands for
 * itself.
 *
 * @throws CheckpointNotFoundError
 */
export async function findModel(path: string): Promise<string> {
  return (await isModelFolder(path)) ? path : findCheckpoint(path);
}
