import { addPrefix, disposeTensors, readCheckpoint, type OrderedDict } from "../../checkpoint/index.js";
import type { MoCo } from "../../moco/index.js";
import { VisionTransformer } from "../../models/index.js";
import type { GradScaler, Optimizer, OptimizerStateDict, ScalingState } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Position } from "./checkpointFiles.js";
import { OWN_FORMAT, OWN_KEY, readOwnPart, type OwnPart, type RunFacts } from "./ownPart.js";
import { resumableParts, ResumeError } from "./resumable.js";
import { SavedRun, type SavedParts } from "./savedRun.js";
import type { SavedWatch } from "../stability/stepWatch.js";

export { ResumeError, type RunFacts };

/** What a run is made of besides its data. */
export interface Trainee {
  moco: MoCo;
  optimizer: Optimizer;
  scaler: GradScaler;
  /** What is known about the steps so far, where they are watched. */
  watch?: { readonly saved: SavedWatch; restore(saved: SavedWatch): void };
}

/** What a checkpoint of ours holds: upstream's keys and our own part. */
export interface TrainingStateValue {
  epoch: number;
  arch: string;
  state_dict: OrderedDict<string, Tensor>;
  optimizer: OptimizerStateDict;
  /** Of a run that did not scale its losses, that of a new scaler. */
  scaler: ScalingState;
  [OWN_KEY]: OwnPart;
}

/**
 * The value of a checkpoint with upstream's keys, which upstream's programs and `torch.load(weights_only=True)` open, and the exact
 * position. The same state gives the same value.
 *
 * Its tensors are those of the network and the optimiser themselves, which the next step changes, and one fresh tensor,
 * `moco_v3_run.rng_state` (uint8): the surrounding scope frees it, or the caller disposes of it.
 */
export function trainingStateValue(
  { moco, optimizer, scaler, watch }: Trainee, position: Position, facts: RunFacts, badImages: readonly number[],
): TrainingStateValue {
  return {
    // The epoch that upstream's --resume begins with. Of an unfinished one it has to do the beginning again.
    epoch: position.epoch,
    arch: facts.arch,
    state_dict: addPrefix(moco.stateDict()),
    optimizer: optimizer.stateDict(),
    scaler: scaler.resumableState(),
    [OWN_KEY]: {
      format: OWN_FORMAT, ...position, facts, bad_images: [...badImages].sort((a, b) => a - b), rng_state: torch.getRngState(),
      num_heads: moco.baseEncoder instanceof VisionTransformer ? moco.baseEncoder.numHeads : null,
      scaled: scaler.enabled,
      ...watch?.saved,
    },
  };
}

/** A checkpoint of a pre-training that has been read and not yet put to use. */
export class SavedTraining extends SavedRun {
  private constructor(parts: SavedParts, /** Of the whole MoCo. */ private readonly network: OrderedDict<string, Tensor>) {
    super(parts);
  }

  /**
   * Reads a checkpoint of ours, or of upstream's, which begins with a whole epoch; or released weights, which may have nothing but the
   * network.
   *
   * @throws CheckpointError for a file that cannot be read; ResumeError for one that is no pre-training checkpoint, which says what it is
   */
  static async read(path: string): Promise<SavedTraining> {
    // Tagged, so that an optimiser's options that are only passed on stay floats.
    const value = await readCheckpoint<Record<string, unknown>>(path, { tagFloats: true });
    try {
      const { network, ...parts } = resumableParts(path, value);
      return new SavedTraining({ path, ...parts, own: readOwnPart(path, value), value }, network);
    } catch (error) {
      disposeTensors(value);
      throw error;
    }
  }

  /**
   * Copies the saved state into a run that was built like the saved one. The optimiser takes over the saved options, as PyTorch's does.
   *
   * @returns what the file does not have and so begins anew, in words; empty for a checkpoint of ours that goes on in its own precision
   * @throws StateDictError or OptimizerStateError where it does not fit
   */
  restore({ moco, optimizer, scaler, watch }: Trainee): string[] {
    moco.loadStateDict(this.network);
    if (this.parts.own !== null) watch?.restore(this.parts.own);
    return this.restoreProgress(optimizer, scaler);
  }
}
