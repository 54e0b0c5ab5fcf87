import { addPrefix, readCheckpoint, stripPrefix, toStateDict, writeCheckpoint } from "../checkpoint/index.js";
import type { MoCo } from "../moco/index.js";
import { VisionTransformer } from "../models/index.js";
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
  arch: string;
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
  /** Images that were found unreadable, by index: those after them moved up in the batches. */
  bad_images: number[];
  rng_state: Tensor;
  /** Attention heads of a ViT, which its tensors do not tell. */
  num_heads: number | null;
}

/**
 * Writes a checkpoint with upstream's keys, which upstream's programs and `torch.load(weights_only=True)` open, and the exact position.
 * The same state gives the same bytes.
 *
 * @throws CheckpointError when the file cannot be written; what was there before is untouched then
 */
export async function saveTrainingState(
  path: string, { moco, optimizer, scaler }: Trainee, position: Position, facts: RunFacts, badImages: readonly number[],
): Promise<void> {
  const rngState = torch.keep(torch.getRngState());
  try {
    await writeCheckpoint(path, {
      // The epoch that upstream's --resume begins with. Of an unfinished one it has to do the beginning again.
      epoch: position.epoch,
      arch: facts.arch,
      state_dict: addPrefix(moco.stateDict()),
      optimizer: optimizer.stateDict(),
      scaler: scaler.stateDict(),
      [OWN_KEY]: {
        format: OWN_FORMAT, ...position, facts, bad_images: [...badImages].sort((a, b) => a - b), rng_state: rngState,
        num_heads: moco.baseEncoder instanceof VisionTransformer ? moco.baseEncoder.numHeads : null,
      } satisfies OwnPart,
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
    private readonly own: OwnPart | null,
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
        throw new ResumeError(
          `${path} has no "${missing.join('", "')}", so no training can go on from it; give a checkpoint that pre-training saved`,
        );
      }
      const epoch = Number(value.epoch);
      if (!Number.isSafeInteger(epoch) || epoch < 0) {
        throw new ResumeError(
          `${path} has the epoch ${String(value.epoch)}, which is no whole number from 0; the file is damaged or of another program`,
        );
      }
      const own = value[OWN_KEY] as OwnPart | undefined;
      if (own !== undefined && own.format !== OWN_FORMAT) {
        throw new ResumeError(
          `${path} was written by another version of this program (format ${own.format}, known is ${OWN_FORMAT}); use that version`,
        );
      }
      const position = own === undefined ? { epoch, step: 0 } : { epoch: own.epoch, step: own.step };
      return new SavedTraining(path, typeof value.arch === "string" ? value.arch : null, position, own ?? null, value);
    } catch (error) {
      disposeTensors(value);
      throw error;
    }
  }

  /** What is known about the run, or null in checkpoints of upstream. */
  get facts(): RunFacts | null {
    return this.own?.facts ?? null;
  }

  /** Images that the run found unreadable, for a data set of the same length. */
  knownBad(images: number): number[] | undefined {
    return this.own?.facts.images === images ? this.own.bad_images : undefined;
  }

  /**
   * Compares what was saved with the run that should go on.
   *
   * @returns what differs, in words, where going on makes sense all the same
   * @throws ResumeError where it makes none: another architecture, or other batches in the middle of an epoch
   */
  compare(facts: RunFacts): string[] {
    const { arch } = facts;
    if (this.arch !== null && arch !== "custom" && this.arch !== arch) {
      throw new ResumeError(
        `${this.path} is of ${this.arch}, and this run trains ${arch}; give --arch ${this.arch}, or another checkpoint`,
      );
    }
    const before = this.facts;
    if (before === null) return [];
    const differences = (a: object, b: object): string[] =>
      Object.entries(b).flatMap(([name, value]) => {
        const old = (a as Record<string, unknown>)[name];
        if (name === "recipe" || name === "arch" || plain(old) === plain(value)) return [];
        return [`${name} is ${plain(value)} and was ${plain(old)}`];
      });
    const data = differences(before, facts);
    if (this.position.step > 0 && data.length > 0) {
      throw new ResumeError(
        `${this.path} is from the middle of an epoch, whose batches would be others now: ${data.join(", ")}. ` +
        "Give the same values, or resume from a checkpoint of a whole epoch",
      );
    }
    return [
      ...data,
      ...differences(before.recipe, facts.recipe).map((each) =>
        // As in PyTorch, loading an optimiser's state brings its options along; the learning rate is set anew in each step.
        /^(weightDecay|momentum|betas) /.test(each) ? `${each}, which the saved optimiser keeps` : each,
      ),
    ];
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
    if (this.own !== null) torch.setRngState(this.own.rng_state);
  }

  dispose(): void {
    disposeTensors(this.value);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Values as they compare and print; whole numbers beyond 2^53 come back from a file as BigInts. */
function plain(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? Number(each) : each)) ?? "unset";
}

/** The number of attention heads that a checkpoint of ours tells, or undefined. */
export function savedNumHeads(checkpoint: Record<string, unknown>): number | undefined {
  return (checkpoint[OWN_KEY] as Partial<OwnPart> | undefined)?.num_heads ?? undefined;
}

/** Frees every tensor in a checkpoint's value. */
export function disposeTensors(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map || Array.isArray(value)) for (const each of value.values()) disposeTensors(each);
  else if (typeof value === "object" && value !== null) for (const each of Object.values(value)) disposeTensors(each);
}
