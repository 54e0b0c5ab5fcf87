import { BackgroundWriter } from "../../checkpoint/index.js";
import { CheckpointFolder, type SavedCheckpoint } from "./checkpointFolder.js";
import type { Position } from "./checkpointFiles.js";
import type { Retention } from "./checkpointRetention.js";
import { trainingStateValue, type RunFacts, type Trainee } from "./trainingState.js";

export interface CheckpointSaverOptions extends Retention {
  /** Whether the training goes on while a file is written, at the price of a copy of its state in memory. */
  background: boolean;
}

/** A checkpoint that is in place. */
export interface FinishedSave extends SavedCheckpoint {
  position: Position;
  /** Milliseconds that the training was held up. */
  stallMs: number;
  /** Milliseconds from the call to the end of writing. */
  totalMs: number;
}

/** Saves the state of a training in its folder, while the training goes on. */
export class CheckpointSaver {
  readonly #writer: BackgroundWriter;
  #saving: Promise<void> = Promise.resolve();
  #failure: Error | null = null;

  private constructor(
    private readonly folder: CheckpointFolder, private readonly trainee: Trainee, private readonly facts: RunFacts,
    private readonly background: boolean, private readonly onSaved: (save: FinishedSave) => void,
  ) {
    this.#writer = new BackgroundWriter({ synchronous: !background });
  }

  /**
   * Opens the folder of a run, which is made if need be.
   *
   * @param onSaved is told of each checkpoint once it is in place
   */
  static async open(
    path: string, trainee: Trainee, facts: RunFacts, { background, keep, keepEvery }: CheckpointSaverOptions,
    onSaved: (save: FinishedSave) => void,
  ): Promise<CheckpointSaver> {
    return new CheckpointSaver(await CheckpointFolder.open(path, { keep, keepEvery }), trainee, facts, background, onSaved);
  }

  /** Takes the memory for the copies, now that the optimiser has its state, so that the first save waits no longer than the others. */
  reserve(): void {
    const value = trainingStateValue(this.trainee, { epoch: 0, step: 0 }, this.facts, []);
    this.#writer.reserve(value);
    value.moco_v3_run.rng_state.dispose();
  }

  /**
   * Copies the state and begins to write it; waits for the save before. When the promise resolves, the training may change its tensors.
   *
   * @throws CheckpointSaveError of the save before, if nobody has heard of it
   */
  async save(position: Position, badImages: readonly number[]): Promise<void> {
    const start = performance.now();
    await this.flush();
    const value = trainingStateValue(this.trainee, position, this.facts, badImages);
    await new Promise<void>((copied) => {
      let stallMs = 0;
      const write = async (path: string): Promise<void> => {
        const { done } = await this.#writer.save(path, value);
        stallMs = performance.now() - start;
        copied();
        await done;
      };
      this.#saving = this.folder
        .save(position, write)
        .then((saved) => this.onSaved({ ...saved, position, stallMs, totalMs: performance.now() - start }))
        .catch((error: Error) => void (this.#failure = error))
        .finally(copied);
    });
    value.moco_v3_run.rng_state.dispose();
    if (!this.background) await this.flush();
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
