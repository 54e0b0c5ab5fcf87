import { addPrefix, readCheckpoint, stripPrefix, toStateDict, writeCheckpoint } from "../checkpoint/index.js";
import type { MoCo } from "../moco/index.js";
import type { GradScaler, Optimizer } from "../optim/index.js";
import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";
import type { Position } from "./checkpointFiles.js";

/** What a run is made of besides its data. */
export interface Trainee {
  moco: MoCo;
  optimizer: Optimizer;
  scaler: GradScaler;
}

/** What the weights of a run depend on and its tensors do not tell. Plain values, so that PyTorch reads them too. */
export interface RunFacts {
  seed: number;
  images: number;
  stepsPerEpoch: number;
  batchSize: number;
  /** The options that shape the training. */
  recipe: Record<string, unknown>;
}

/** A checkpoint cannot be resumed from: it is no pre-training checkpoint, or of another run. */
export class ResumeError extends Error {
  override readonly name = "ResumeError";
}

/** Where our own part of a checkpoint lies; upstream's programs pass over keys that they do not know. */
const OWN_KEY = "moco_v3_run";
const OWN_FORMAT = 1;

interface OwnPart {
  format: number;
  epoch: number;
  step: number;
  facts: RunFacts;
  rng_state: Tensor;
}

/**
 * Writes a checkpoint with upstream's keys, which upstream's programs and `torch.load(weights_only=True)` open, and the exact position.
 * The same state gives the same bytes.
 *
 * @throws CheckpointError when the file cannot be written; what was there before is untouched then
 */
export async function saveTrainingState(
  path: string, arch: string, { moco, optimizer, scaler }: Trainee, position: Position, facts: RunFacts,
): Promise<void> {
  const rngState = torch.keep(torch.getRngState());
  try {
    await writeCheckpoint(path, {
      // The epoch that upstream's --resume begins with. Of an unfinished one it has to do the beginning again.
      epoch: position.epoch,
      arch,
      state_dict: addPrefix(moco.stateDict()),
      optimizer: optimizer.stateDict(),
      scaler: scaler.stateDict(),
      [OWN_KEY]: { format: OWN_FORMAT, ...position, facts, rng_state: rngState } satisfies OwnPart,
    });
  } finally {
    rngState.dispose();
  }
}

/** A checkpoint that has been read and not yet put to use. */
export class SavedTraining {
  private constructor(
    readonly path: string,
    readonly arch: string | null,
    readonly position: Position,
    /** Null in checkpoints of upstream. */
    readonly facts: RunFacts | null,
    private readonly value: Record<string, unknown>,
  ) {}

  /**
   * Reads a checkpoint of ours or of upstream's, which begins with a whole epoch.
   *
   * @throws CheckpointError for a file that cannot be read; ResumeError for one that is no pre-training checkpoint
   */
  static async read(path: string): Promise<SavedTraining> {
    const value = await readCheckpoint<Record<string, unknown>>(path);
    try {
      const missing = ["epoch", "state_dict", "optimizer"].filter((key) => value === null || typeof value !== "object" || !(key in value));
      if (missing.length > 0) {
        throw new ResumeError(`${path} has no "${missing.join('", "')}", so no training can go on from it; give a checkpoint that pre-training saved`);
      }
      const epoch = Number(value.epoch);
      if (!Number.isSafeInteger(epoch) || epoch < 0) {
        throw new ResumeError(`${path} has the epoch ${String(value.epoch)}, which is no whole number from 0; the file is damaged or of another program`);
      }
      const own = value[OWN_KEY] as OwnPart | undefined;
      if (own !== undefined && own.format !== OWN_FORMAT) {
        throw new ResumeError(`${path} was written by another version of this program (format ${own.format}, known is ${OWN_FORMAT}); use that version`);
      }
      const position = own === undefined ? { epoch, step: 0 } : { epoch: own.epoch, step: own.step };
      return new SavedTraining(path, typeof value.arch === "string" ? value.arch : null, position, own?.facts ?? null, value);
    } catch (error) {
      disposeTensors(value);
      throw error;
    }
  }

  /**
   * Copies the saved state into a run that was built like the saved one. The optimiser takes over the saved options, as PyTorch's does.
   *
   * @throws StateDictError or OptimizerStateError where it does not fit
   */
  restore({ moco, optimizer, scaler }: Trainee): void {
    moco.loadStateDict(stripPrefix(toStateDict(this.value.state_dict)));
    optimizer.loadStateDict(this.value.optimizer);
    const scale = this.value.scaler;
    // A run without scaling saves an empty state; one that goes on in float16 starts with a fresh scale.
    if (typeof scale === "object" && scale !== null && Object.keys(scale).length > 0) scaler.loadStateDict(scale);
    const own = this.value[OWN_KEY] as OwnPart | undefined;
    if (own !== undefined) torch.setRngState(own.rng_state);
  }

  dispose(): void {
    disposeTensors(this.value);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function disposeTensors(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map || Array.isArray(value)) for (const each of value.values()) disposeTensors(each);
  else if (typeof value === "object" && value !== null) for (const each of Object.values(value)) disposeTensors(each);
}
