import { existsSync } from "node:fs";
import { join } from "node:path";
import { writeDurably } from "../../checkpoint/index.js";
import { diskFiles } from "../../checkpoint/files/durableFile.js";
import { BackgroundSaves, type SaveTimes } from "./backgroundSaves.js";
import { CLASSIFIER_CHECKPOINT, MODEL_BEST } from "./checkpointFiles.js";
import { removeAbandoned, saveFailure } from "./checkpointFolder.js";

export interface SupervisedFolderOptions {
  /** Whether the training goes on while a file is written, at the price of a copy of its state in memory. Default true. */
  background?: boolean;
}

/** A checkpoint of a training with labels that is in place. */
export interface SupervisedSave extends SaveTimes {
  path: string;
}

/**
 * The folder of a training with labels: `checkpoint.pth.tar`, which each save replaces, and `model_best.pth.tar`, a copy of the one with the
 * highest accuracy, as upstream writes them.
 *
 * Whenever the program is killed or the machine stops, either file is complete; the best one is written first, so that a run which goes on
 * from `checkpoint.pth.tar` never has a best accuracy whose weights are lost.
 */
export class SupervisedFolder {
  readonly #saves: BackgroundSaves;

  private constructor(readonly path: string, background: boolean) {
    this.#saves = new BackgroundSaves(background);
  }

  /** Opens the folder, which is made if need be. */
  static async open(path: string, { background = true }: SupervisedFolderOptions = {}): Promise<SupervisedFolder> {
    await diskFiles.makeFolder(path);
    await removeAbandoned(path, diskFiles, (name) => name === CLASSIFIER_CHECKPOINT || name === MODEL_BEST);
    return new SupervisedFolder(path, background);
  }

  /**
   * Copies the state and begins to write it; waits for the save before. When the promise resolves, the training may change its tensors.
   *
   * @param best whether it becomes `model_best.pth.tar` too
   * @param onSaved is told once the checkpoint is in place
   * @throws CheckpointSaveError of the save before, if nobody has heard of it
   */
  async save(value: unknown, best: boolean, onSaved: (save: SupervisedSave) => void = () => {}): Promise<void> {
    const [path, bestPath] = [join(this.path, CLASSIFIER_CHECKPOINT), join(this.path, MODEL_BEST)];
    const first = best ? bestPath : path;
    await this.#saves.save({
      value,
      place: async (write) => {
        await write(first);
        // A file of its own, not a second name: upstream's programs write into the file that is there.
        if (best) await copyDurably(bestPath, path);
      },
      done: (_, times) => onSaved({ path, ...times }),
      failure: (error) => saveFailure(first, existsSync(path) ? path : null, error),
    });
  }

  /** @throws CheckpointSaveError of a save that has failed meanwhile; once */
  check(): void {
    this.#saves.check();
  }

  /** Waits until what was saved is in place. @throws CheckpointSaveError if it could not be saved, and nobody has heard of it */
  flush(): Promise<void> {
    return this.#saves.flush();
  }

  /** Waits for the file that is being written and frees the copy's memory. Never throws. */
  close(): Promise<void> {
    return this.#saves.close();
  }
}

async function copyDurably(from: string, to: string): Promise<void> {
  await writeDurably(to, async (sink) => {
    for await (const bytes of diskFiles.read(from)) await sink.write(bytes);
  });
}
