import { existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CheckpointError } from "../../checkpoint/index.js";
import { diskFiles, errorCode } from "../../checkpoint/files/durableFile.js";
import { namesIn } from "../../setup/namesIn.js";
import { OptionError } from "../options.js";
import {
  checkpointsIn, CLASSIFIER_CHECKPOINT, findCheckpoint, LAST_CHECKPOINT, MODEL_BEST, requireFreshFolder,
} from "./checkpointFiles.js";
import { pointedTo, pointTo } from "./checkpointPointer.js";

/** What a run is told about its beginning. */
export interface ResumeWish {
  /** A checkpoint, or a run's folder, to go on from. */
  resume: string | null;
  /** Go on from the latest checkpoint in `out` where there is one. */
  autoResume: boolean;
  out: string | null;
}

/** @throws OptionError where the folder that an automatic resumption looks into is not given */
export function requireStableFolder({ autoResume, out }: Pick<ResumeWish, "autoResume" | "out">): void {
  if (!autoResume || out !== null) return;
  throw new OptionError("autoResume goes on with what is in the run's folder, and out is not given; name the folder, the same at each start (--out)");
}

/**
 * Reads the checkpoint that a run goes on from, and makes sure that its folder is fresh or its own.
 *
 * With `autoResume` that is the latest in the folder `out`; where there is none, the run begins as it would without: anew, or from `resume`.
 *
 * @param read reads one
 * @param warn hears of checkpoints that are damaged
 * @returns null for a run that begins anew
 * @throws the errors of reading and looking for checkpoints; RunFolderError
 */
export async function readToResume<Saved>(
  { resume, autoResume, out }: ResumeWish, read: (path: string) => Promise<Saved>, warn: (message: string) => void = () => {},
): Promise<Saved | null> {
  if (autoResume && out !== null) {
    const latest = await readLatest(out, read, warn);
    if (latest !== null) return latest;
  }
  const from = resume === null ? null : findCheckpoint(resume);
  if (out !== null) requireFreshFolder(out, from);
  return from === null ? null : read(from);
}

/**
 * Reads the latest checkpoint in a folder that can be read.
 *
 * A checkpoint has its name only once it is complete, so one that does not load was damaged afterwards, by the disk or by whoever copied it.
 * A user who resumes by hand gets the error and decides. A job that restarts by itself goes on from the one before, and says so; the damaged
 * one is kept under another name, so that it is neither found again nor replaced when the run comes to its place. Where none loads, the run
 * does not begin anew: that is no loss that anybody has agreed to.
 */
async function readLatest<Saved>(folder: string, read: (path: string) => Promise<Saved>, warn: (message: string) => void): Promise<Saved | null> {
  const damaged: { path: string; reason: string }[] = [];
  for (const path of candidates(folder)) {
    let saved: Saved;
    try {
      saved = await read(path);
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged.push({ path, reason: (error as Error).message });
      continue;
    }
    for (const each of damaged) {
      const kept = await setAside(each.path);
      warn(
        `${each.path} is damaged (${each.reason}). It is kept as ${kept}, and the run goes on from the checkpoint before it, ${path}: ` +
          "what was trained in between is done again. Look after the disk",
      );
    }
    if (damaged.length > 0) await leadPointerTo(path);
    return saved;
  }
  if (damaged.length === 0) return null;
  throw new CheckpointError(
    { file: damaged[0]!.path }, null,
    `it is damaged, and so is every other checkpoint in ${folder} (${damaged.map(({ reason }) => reason).join("; ")}); look after the disk, put ` +
      "a good copy there, or begin anew with another --out",
  );
}

/** The latest first. */
function candidates(folder: string): string[] {
  const furthestFirst = checkpointsIn(folder).reverse();
  if (furthestFirst.length > 0) return furthestFirst.map((name) => join(folder, name));
  const names = namesIn(folder);
  if (names.includes(LAST_CHECKPOINT)) return [findCheckpoint(join(folder, LAST_CHECKPOINT))];
  // The best one of a training with labels is as complete as its latest.
  return [CLASSIFIER_CHECKPOINT, MODEL_BEST].filter((name) => names.includes(name)).map((name) => join(folder, name));
}

/** Not a system that refuses: no permission or too many open files may be over at the next start, and an older checkpoint would not help. */
function isDamage(error: unknown): boolean {
  if (!(error instanceof CheckpointError)) return false;
  const code = errorCode(error);
  return code === undefined || code === "EIO" || !/^E[A-Z\d]+$/.test(code);
}

async function setAside(path: string): Promise<string> {
  let kept = `${path}.damaged`;
  for (let i = 2; existsSync(kept); i++) kept = `${path}.damaged-${i}`;
  // Of several processes that start together, another one may have been quicker.
  await rename(path, kept).catch((error: unknown) => {
    if (errorCode(error) !== "ENOENT") throw error;
  });
  return kept;
}

/** Where `last.pth.tar` led to a checkpoint that was set aside. */
async function leadPointerTo(path: string): Promise<void> {
  const folder = dirname(path);
  const target = await pointedTo(folder, diskFiles);
  if (target !== null && !existsSync(join(folder, target))) await pointTo(folder, basename(path), diskFiles);
}
