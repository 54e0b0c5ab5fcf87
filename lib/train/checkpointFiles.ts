import { readdirSync, statSync } from "node:fs";
import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";

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

/** Names of a folder's checkpoints, from the first to the furthest; empty for a folder that does not exist. */
export function checkpointsIn(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  const found = names.flatMap((name) => {
    const position = positionOf(name);
    return position === null ? [] : [{ name, ...position }];
  });
  return found.sort((a, b) => a.epoch - b.epoch || a.step - b.step).map(({ name }) => name);
}

/**
 * The checkpoint file that a user means by `path`: the file itself, or a run's folder for the furthest one in it.
 *
 * @throws CheckpointNotFoundError
 */
export function findCheckpoint(path: string): string {
  const about = statSync(path, { throwIfNoEntry: false });
  const remedy = "give a checkpoint file, or the folder of a run";
  if (about === undefined) throw new CheckpointNotFoundError(`there is no checkpoint ${path}; ${remedy}`);
  if (!about.isDirectory()) return path;
  const last = checkpointsIn(path).at(-1);
  if (last === undefined) {
    throw new CheckpointNotFoundError(`the folder ${path} has no checkpoint_*.pth.tar; ${remedy}`);
  }
  return join(path, last);
}

/**
 * Makes sure that a new run does not mix its checkpoints with those of another.
 *
 * @throws RunFolderError
 */
export function requireFreshFolder(folder: string): void {
  const last = checkpointsIn(folder).at(-1);
  if (last === undefined) return;
  throw new RunFolderError(
    `${folder} already holds a run (${last}); go on with it by --resume ${folder}, or give another folder with --out`,
  );
}

/** Removes the beginnings of checkpoints that a killed run has left behind. */
export async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (/^\.checkpoint_\d{4,}(_step_\d+)?\.pth\.tar\..*\.tmp$/.test(name)) await unlink(join(folder, name));
  }
}

/** Removes the checkpoints that were written in the middle of an epoch and that `newest` has made superfluous. */
export async function removeStepCheckpoints(folder: string, newest: string): Promise<void> {
  for (const name of checkpointsIn(folder)) {
    if (name === newest) return; // those that follow are of another, longer run
    if (name.includes("_step_")) await unlink(join(folder, name));
  }
}
