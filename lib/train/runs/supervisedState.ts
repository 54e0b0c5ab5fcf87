import { addPrefix, disposeTensors, PythonFloat, readCheckpoint, recogniseCheckpoint, stripPrefix, OrderedDict } from "../../checkpoint/index.js";
import { VisionTransformer } from "../../models/index.js";
import type { Module } from "../../nn/index.js";
import type { GradScaler, Optimizer, OptimizerStateDict } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import type { Position } from "./checkpointFiles.js";
import { OWN_FORMAT, OWN_KEY, readOwnPart, type OwnPart, type RunFacts } from "./ownPart.js";
import { ResumeError, savedScale } from "./resumable.js";
import { SavedRun, type SavedParts } from "./savedRun.js";

/** What a training with labels is made of besides its data. */
export interface SupervisedTrainee {
  /** An encoder with its classifier. */
  model: Module;
  /** Null in an evaluation. */
  optimizer: Optimizer | null;
  /** Of a training that may scale its losses. */
  scaler?: GradScaler;
}

/** Where a training with labels stands. */
export interface SupervisedProgress {
  /** Where `step` is that of the epoch's end, the epoch is trained and not evaluated. */
  position: Position;
  /** Highest acc@1 so far, in percent; 0 before the first evaluation. */
  bestAcc1: number;
  /** Images that were found unreadable, by index. */
  badImages: readonly number[];
}

/**
 * Under which key a checkpoint holds the network: `state_dict` with `module.` before the names, as upstream's linear probe; or `model` with
 * the plain ones, as DeiT's programs, whose files timm's models load.
 */
export type SupervisedLayout = "upstream" | "deit";

/** What a checkpoint of a training with labels holds: the entries of upstream's linear probe, or of DeiT, and our own part. */
export interface SupervisedStateValue {
  epoch: number;
  arch: string;
  state_dict?: OrderedDict<string, Tensor>;
  model?: OrderedDict<string, Tensor>;
  /** Float32 without dimensions, as upstream's. */
  best_acc1: Tensor;
  optimizer: OptimizerStateDict;
  [OWN_KEY]: OwnPart;
}

/**
 * The value of a checkpoint with the keys of upstream's linear probe, or of DeiT, and the exact position. The same state gives the same value.
 *
 * Its tensors are those of model and optimiser themselves, which the next step changes, and two fresh ones, `best_acc1` and
 * `moco_v3_run.rng_state`: the surrounding scope frees them, or the caller disposes of them.
 *
 * @param classes names of the classes, in the order of the classifier's outputs
 */
export function supervisedStateValue(
  { model, optimizer }: SupervisedTrainee, { position, bestAcc1, badImages }: SupervisedProgress, facts: RunFacts, classes: readonly string[],
  layout: SupervisedLayout = "upstream",
): SupervisedStateValue {
  if (optimizer === null) throw new TypeError("a model without its optimiser is no training that could go on");
  return {
    // The epoch that upstream's --resume begins with. Of an unfinished one it has to do the beginning again.
    epoch: position.epoch,
    arch: facts.arch,
    ...(layout === "upstream" ? { state_dict: addPrefix(model.stateDict()) } : { model: new OrderedDict(model.stateDict()) }),
    best_acc1: torch.tensor(bestAcc1, [], { dtype: "float32" }),
    optimizer: optimizer.stateDict(),
    [OWN_KEY]: {
      format: OWN_FORMAT, ...position, facts, bad_images: [...badImages].sort((a, b) => a - b), rng_state: torch.getRngState(),
      num_heads: model instanceof VisionTransformer ? model.numHeads : null,
      ...(model instanceof VisionTransformer ? { image_size: [...model.imageSize] as [number, number] } : {}),
      // A float32 would not bring the exact value back, and `best` compares exactly.
      best_acc1: new PythonFloat(bestAcc1),
      classes: [...classes],
    },
  };
}

/** A checkpoint of a training with labels that has been read and not yet put to use. */
export class SavedSupervised extends SavedRun {
  private constructor(
    parts: SavedParts,
    /** Highest acc@1 so far, in percent. */
    readonly bestAcc1: number,
    /** Encoder and classifier, under our own keys. */
    readonly state: OrderedDict<string, Tensor>,
  ) {
    super(parts);
  }

  /**
   * Reads a checkpoint of ours or of upstream's `main_lincls.py`, which begins with a whole epoch; or a classifier's state dict alone,
   * which can be evaluated.
   *
   * @throws CheckpointError for a file that cannot be read; ResumeError for one that holds no classifier, which says what it is
   */
  static async read(path: string): Promise<SavedSupervised> {
    // Tagged, so that an optimiser's options that are only passed on stay floats.
    const value = await readCheckpoint<Record<string, unknown>>(path, { tagFloats: true });
    try {
      const recognised = recogniseCheckpoint(value);
      if (recognised.kind === "moco-v3") {
        throw new ResumeError(
          `${path} is of pre-training, not of a training with labels; begin with its encoder: --pretrained ${path}`,
        );
      }
      if (recognised.state.size === 0) throw new ResumeError(`${path} holds no network; give a checkpoint of the training to go on with`);
      const holder: Record<string, unknown> = value instanceof Map ? Object.fromEntries(value) : { ...value };
      const own = readOwnPart(path, holder);
      const arch = typeof holder.arch === "string" ? holder.arch : recognised.arch;
      const best = percentOf(own?.best_acc1) ?? percentOf(holder.best_acc1) ?? 0;
      const { optimizer = null, scaler } = holder;
      const parts = { path, arch, epoch: recognised.epoch, optimizer, scaler: savedScale(scaler), own, value: holder };
      return new SavedSupervised(parts, best, stripPrefix(recognised.state));
    } catch (error) {
      disposeTensors(value);
      throw error;
    }
  }

  /** Attention heads of a ViT, or null where the file does not tell. */
  get numHeads(): number | null {
    return this.parts.own?.num_heads ?? null;
  }

  /** Names of the classes, in the order of the classifier's outputs, or null where the file does not tell. */
  get classes(): string[] | null {
    const classes: unknown = this.parts.own?.classes;
    return Array.isArray(classes) ? classes.map(String) : null;
  }

  /**
   * Makes sure that the classifier's outputs are those of a model that gets its weights.
   *
   * @param headKey name of the classifier: `head` or `fc`
   * @param numClasses outputs of the model
   * @param classes names of the data set's classes
   * @returns what a user should know, in words
   * @throws ResumeError where there is no classifier, or one of another number of classes
   */
  compareClasses(headKey: string, numClasses: number, classes: readonly string[]): string[] {
    const weight = this.state.get(`${headKey}.weight`);
    if (weight?.ndim !== 2) {
      throw new ResumeError(`${this.path} has no classifier (no ${headKey}.weight); begin with its encoder: --pretrained ${this.path}`);
    }
    const saved = weight.size(0);
    if (saved !== numClasses) {
      const remedy = saved > classes.length
        ? `give the images it was trained on, or, if its further outputs stand for nothing, --num-classes ${saved}`
        : `give the images it was trained on, or begin a new classifier: --pretrained ${this.path}`;
      throw new ResumeError(
        `the classifier of ${this.path} has ${saved} classes, and the one for these images ${numClasses} (there are ${classes.length}); ${remedy}`,
      );
    }
    const differing = this.classes?.findIndex((name, label) => name !== classes[label]) ?? -1;
    if (differing < 0) return [];
    return [
      `class ${differing} is ${classes[differing] ?? "none"} here and was ${this.classes![differing]} in ${this.path}: if these are not the same, ` +
        "its outputs mean something else",
    ];
  }

  /**
   * Copies the saved state into a model and its optimiser that were built like the saved ones.
   *
   * @returns what the file does not have and so begins anew, in words
   * @throws StateDictError or OptimizerStateError where it does not fit
   */
  restore({ model, optimizer, scaler }: SupervisedTrainee): string[] {
    model.loadStateDict(this.state);
    return optimizer === null ? [] : this.restoreProgress(optimizer, scaler);
  }
}

/** Upstream's best accuracy is a tensor, or Python's 0 before the first epoch. */
function percentOf(value: unknown): number | null {
  if (value === undefined || value === null) return null;
  const percent = Number(value instanceof Tensor ? value.item() : value);
  return percent >= 0 && percent <= 100 ? percent : null;
}
