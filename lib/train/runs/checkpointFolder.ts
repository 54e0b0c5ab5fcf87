import { join } from "node:path";
import { diskFiles, errorCode, type FileLayer } from "../../checkpoint/files/durableFile.js";
import { CheckpointError } from "../../checkpoint/error.js";
import { isAbandoned, temporaryOwner } from "../../checkpoint/files/temporaryFile.js";
import { checkpointName, byPosition, LAST_CHECKPOINT, positionOf, type Position } from "./checkpointFiles.js";
import { pointedTo, pointTo } from "./checkpointPointer.js";
import { requireRetention, superseded, type Retention } from "./checkpointRetention.js";

export interface CheckpointFolderOptions extends Retention {
  /** File operations, for tests that inject faults. */
  files?: FileLayer;
}

/** What `save` did. */
export interface SavedCheckpoint {
  /** Path of the new checkpoint, to which `last.pth.tar` now leads. */
  path: string;
  /** Names of the older ones that were removed. */
  removed: string[];
  /** Why an older one that should go is still there, or null. The new one is safe all the same. */
  warning: string | null;
}

/** A checkpoint could not be saved. What was there before still is, and `kept` tells from where the run can go on. */
export class CheckpointSaveError extends Error {
  override readonly name = "CheckpointSaveError";

  constructor(
    message: string,
    /** Path of the checkpoint that was to be saved. */
    readonly path: string,
    /** What failed: the file itself, or `last.pth.tar` (the file is complete then). */
    readonly stage: "write" | "point",
    /** Path of the newest complete checkpoint; null if there is none, or if the folder cannot be read any more. */
    readonly kept: string | null,
    /** The system's name of the cause, "ENOSPC" for a full disk, or null. */
    readonly code: string | null,
    options: { cause: unknown },
  ) {
    super(message, options);
  }
}

/**
 * The checkpoints of a run. Whenever the program is killed, the machine loses power or the disk is full or fails:
 *
 * - a file named `checkpoint_*.pth.tar` is complete;
 * - `last.pth.tar` leads to the checkpoint saved last, or, while the next one is being saved, to that one;
 * - no checkpoint that `keep` and `keepEvery` ask for is lost.
 *
 * The order makes it so: the new file is written, fsynced and renamed, the folder is fsynced, the pointer is renamed, the folder is
 * fsynced again, and only then old files are removed, oldest first.
 *
 * @example
 * const folder = await CheckpointFolder.open("runs/a", { keep: 3, keepEvery: 50 });
 * await folder.save({ epoch: 1, step: 0 }, (path) => writeCheckpoint(path, state));
 */
export class CheckpointFolder {
  #newest: string | null = null;
  #saving: Promise<unknown> = Promise.resolve();

  private constructor(readonly path: string, private readonly retention: Retention, private readonly files: FileLayer) {}

  /**
   * Opens a run's folder, which is made if need be. Temporary files whose writer is gone are removed; see `isAbandoned`.
   *
   * @throws RetentionError; the system's errors where the folder cannot be made or read
   */
  static async open(path: string, { keep, keepEvery, files = diskFiles }: CheckpointFolderOptions = {}): Promise<CheckpointFolder> {
    requireRetention({ keep, keepEvery });
    await files.makeFolder(path);
    await removeAbandoned(path, files, (target) => target === LAST_CHECKPOINT || positionOf(target) !== null);
    return new CheckpointFolder(path, { keep, keepEvery }, files);
  }

  /** Path of the checkpoint that was saved last through this object, or null. */
  get newest(): string | null {
    return this.#newest === null ? null : join(this.path, this.#newest);
  }

  /**
   * Saves the checkpoint of a position, leads `last.pth.tar` to it and removes those that it makes superfluous. A call waits
   * for the one before it, so that calls may overlap.
   *
   * @param write writes the file at the path it is given, durably, as `writeCheckpoint` and `writeDurably` do: when its promise is
   * fulfilled, the file and its name survive a power cut
   * @throws CheckpointSaveError; nothing was removed then
   */
  save(position: Position, write: (path: string) => Promise<unknown>): Promise<SavedCheckpoint> {
    const saved = this.#saving.then(() => this.#save(checkpointName(position), write));
    this.#saving = saved.catch(() => undefined); // whoever made that call hears of it
    return saved;
  }

  /**
   * Removes what a checkpoint makes superfluous, as saving it does: whoever saved it may have been killed before.
   *
   * @param name of a complete checkpoint in the folder
   * @returns a warning where something cannot be removed, or null
   */
  async tidy(name: string): Promise<string | null> {
    return (await this.#prune(name)).warning;
  }

  async #save(name: string, write: (path: string) => Promise<unknown>): Promise<SavedCheckpoint> {
    const path = join(this.path, name);
    let stage: CheckpointSaveError["stage"] = "write";
    try {
      await write(path);
      if ((await this.files.look(path)) === null) throw new Error("the function that should write it made no such file");
      stage = "point";
      await pointTo(this.path, name, this.files);
    } catch (error) {
      throw await this.#saveError(path, name, stage, error);
    }
    this.#newest = name;
    return { path, ...(await this.#prune(name)) };
  }

  /** Failures are told, not thrown: the checkpoint is safe, and a superfluous file is no reason to end a training. */
  async #prune(newest: string): Promise<Pick<SavedCheckpoint, "removed" | "warning">> {
    const removed: string[] = [];
    const failures: string[] = [];
    try {
      const names = superseded(await this.files.list(this.path), newest, this.retention);
      const pointed = await pointedTo(this.path, this.files); // another program may have moved it
      for (const name of names) {
        if (name === pointed) continue;
        try {
          const kind = (await this.files.look(join(this.path, name)))?.kind;
          if (kind !== "file" && kind !== "link") continue;
          await this.files.remove(join(this.path, name));
          removed.push(name);
        } catch (error) {
          failures.push(`${name} (${(error as Error).message})`);
        }
      }
    } catch (error) {
      failures.push((error as Error).message);
    }
    const warning = failures.length === 0 ? null : `old checkpoints in ${this.path} cannot be removed: ${failures.join(", ")}`;
    return { removed, warning };
  }

  async #saveError(path: string, name: string, stage: CheckpointSaveError["stage"], cause: unknown): Promise<CheckpointSaveError> {
    const kept = stage === "point" ? name : await this.#newestComplete(name);
    const code = errorCode(cause) ?? null;
    const { message } = cause as Error;
    const what = stage === "write" ? notWritten(path, cause)
      : `${path} is saved, but ${LAST_CHECKPOINT} cannot be led to it: ${sentence(message)} ${remedyFor(code)}`;
    const rest = kept === undefined ? "What was there before is untouched"
      : kept === null ? "No checkpoint was there before"
      : `${kept} is complete: go on from it by --resume ${stage === "point" ? path : this.path}`;
    return new CheckpointSaveError(what + rest, path, stage, kept == null ? null : join(this.path, kept), code, { cause });
  }

  /** Undefined where the folder cannot be read. */
  async #newestComplete(failed: string): Promise<string | null | undefined> {
    if (this.#newest !== null) return this.#newest;
    try {
      const names = (await this.files.list(this.path)).filter((name) => positionOf(name) !== null).sort(byPosition);
      const pointed = await pointedTo(this.path, this.files);
      if (pointed !== null && names.includes(pointed)) return pointed;
      return names.filter((name) => byPosition(name, failed) < 0).at(-1) ?? null;
    } catch {
      return undefined;
    }
  }
}

/**
 * Removes the beginnings of checkpoints and pointers that killed runs have left behind.
 *
 * @param isOurs whether a run writes a file of this name
 */
export async function removeAbandoned(folder: string, files: FileLayer, isOurs: (target: string) => boolean): Promise<void> {
  for (const name of await files.list(folder)) {
    const owner = temporaryOwner(name);
    if (owner === null || !isOurs(owner.target)) continue;
    const path = join(folder, name);
    try {
      const facts = await files.look(path);
      if (facts !== null && isAbandoned(owner, facts.modified)) await files.remove(path);
    } catch {
      // Another run may have removed it, and one that stays does no harm.
    }
  }
}

/**
 * Of a checkpoint that is not in place.
 *
 * @param kept path of the complete checkpoint that a run can go on from, or null
 */
export function saveFailure(path: string, kept: string | null, cause: unknown): CheckpointSaveError {
  const rest = kept === null ? "No checkpoint was there before" : `${kept} is complete: go on from it by --resume ${kept}`;
  return new CheckpointSaveError(notWritten(path, cause) + rest, path, "write", kept, errorCode(cause) ?? null, { cause });
}

function notWritten(path: string, cause: unknown): string {
  const { message } = cause as Error;
  // The writer of checkpoints has said already which file, and what to do.
  if (cause instanceof CheckpointError) return `${sentence(message)} `;
  return `${path} cannot be saved: ${sentence(message)} ${remedyFor(errorCode(cause) ?? null)}`;
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function remedyFor(code: string | null): string {
  switch (code) {
    case "ENOSPC": case "EDQUOT": return "Free some space, or keep fewer checkpoints (--keep). ";
    case "EACCES": case "EPERM": case "EROFS": return "Make the folder writable, or choose another with --out. ";
    default: return "";
  }
}
