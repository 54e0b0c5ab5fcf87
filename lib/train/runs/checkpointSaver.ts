import { BackgroundSaves, type SaveTimes } from "./backgroundSaves.js";
import { CheckpointFolder, type SavedCheckpoint } from "./checkpointFolder.js";
import type { Position } from "./checkpointFiles.js";
import type { Retention } from "./checkpointRetention.js";
import { trainingStateValue, type RunFacts, type Trainee } from "./trainingState.js";

export interface CheckpointSaverOptions extends Retention {
  /** Whether the training goes on while a file is written, at the price of a copy of its state in memory. */
  background: boolean;
}

/** A checkpoint that is in place. */
export interface FinishedSave extends SavedCheckpoint, SaveTimes {
  position: Position;
}

/** Saves the state of a training in its folder, while the training goes on. */
export class CheckpointSaver {
  readonly #saves: BackgroundSaves;

  private constructor(
    private readonly folder: CheckpointFolder, private readonly trainee: Trainee, private readonly facts: RunFacts, background: boolean,
    private readonly onSaved: (save: FinishedSave) => void,
  ) {
    this.#saves = new BackgroundSaves(background);
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

  /** Removes what the checkpoint that the run goes on from makes superfluous; see `CheckpointFolder.tidy`. */
  tidy(name: string): Promise<string | null> {
    return this.folder.tidy(name);
  }

  /** Takes the memory for the copies, now that the optimiser has its state, so that the first save waits no longer than the others. */
  reserve(): void {
    const value = trainingStateValue(this.trainee, { epoch: 0, step: 0 }, this.facts, []);
    this.#saves.reserve(value);
    value.moco_v3_run.rng_state.dispose();
  }

  /**
   * Copies the state and begins to write it; waits for the save before. When the promise resolves, the training may change its tensors.
   *
   * @throws CheckpointSaveError of the save before, if nobody has heard of it
   */
  async save(position: Position, badImages: readonly number[]): Promise<void> {
    const value = trainingStateValue(this.trainee, position, this.facts, badImages);
    try {
      await this.#saves.save({
        value,
        place: (write) => this.folder.save(position, write),
        done: (saved, times) => this.onSaved({ ...saved, ...times, position }),
      });
    } finally {
      value.moco_v3_run.rng_state.dispose();
    }
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
