import { existsSync } from "node:fs";
import { join } from "node:path";
import { BackgroundWriter, writeDurably } from "../../checkpoint/index.js";
import { diskFiles } from "../../checkpoint/files/durableFile.js";
import { CLASSIFIER_CHECKPOINT, MODEL_BEST } from "./checkpointFiles.js";
import { removeAbandoned, saveFailure, type CheckpointSaveError } from "./checkpointFolder.js";

export interface SupervisedFolderOptions {
  /** Whether the training goes on while a file is written, at the price of a copy of its state in memory. Default true. */
  background?: boolean;
}

/** A checkpoint of a training with labels that is in place. */
export interface SupervisedSave {
  path: string;
  /** Milliseconds that the training was held up. */
  stallMs: number;
  /** Milliseconds from the call to the end of writing. */
  totalMs: number;
}

/**
 * The folder of a training with labels: `checkpoint.pth.tar`, which each save replaces, and `model_best.pth.tar`, a copy of the one with the
 * highest accuracy, as upstream writes them.
 *
 * Whenever the program is killed or the machine stops, either file is complete; the best one is written first, so that a run which goes on
 * from `checkpoint.pth.tar` never has a best accuracy whose weights are lost.
 */
export class SupervisedFolder {
  readonly #writer: BackgroundWriter;
  readonly #background: boolean;
  #saving: Promise<void> = Promise.resolve();
  #failure: CheckpointSaveError | null = null;

  private constructor(readonly path: string, background: boolean) {
    this.#background = background;
    this.#writer = new BackgroundWriter({ synchronous: !background });
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
    const start = performance.now();
    await this.flush();
    const [path, bestPath] = [join(this.path, CLASSIFIER_CHECKPOINT), join(this.path, MODEL_BEST)];
    const first = best ? bestPath : path;
    await new Promise<void>((copied) => {
      let stallMs = 0;
      const write = async (): Promise<void> => {
        const { done } = await this.#writer.save(first, value);
        stallMs = performance.now() - start;
        copied();
        await done;
        // A file of its own, not a second name: upstream's programs write into the file that is there.
        if (best) await copyDurably(bestPath, path);
      };
      this.#saving = write()
        .then(() => onSaved({ path, stallMs, totalMs: performance.now() - start }))
        .catch((error: unknown) => void (this.#failure = saveFailure(first, existsSync(path) ? path : null, error)))
        .finally(copied);
    });
    if (!this.#background) await this.flush();
  }

  /** @throws CheckpointSaveError of a save that has failed meanwhile; once */
  check(): void {
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) throw failure;
  }

  /** Waits until what was saved is in place. @throws CheckpointSaveError if it could not be saved, and nobody has heard of it */
  async flush(): Promise<void> {
    await this.#saving;
    this.check();
  }

  /** Waits for the file that is being written and frees the copy's memory. Never throws. */
  async close(): Promise<void> {
    await this.#saving;
    await this.#writer.close();
  }
}

async function copyDurably(from: string, to: string): Promise<void> {
  await writeDurably(to, async (sink) => {
    for await (const bytes of diskFiles.read(from)) await sink.write(bytes);
  });
}
