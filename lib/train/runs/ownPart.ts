import type { PythonFloat } from "../../checkpoint/index.js";
import { Tensor } from "../../torch/index.js";
import type { SavedSnapshot } from "../stability/snapshot.js";
import { ResumeError } from "./resumable.js";

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

/** Where our own part of a checkpoint lies; upstream's programs pass over keys that they do not know. */
export const OWN_KEY = "moco_v3_run";
export const OWN_FORMAT = 1;

/** What our checkpoints hold beside upstream's entries. */
export interface OwnPart {
  format: number;
  epoch: number;
  step: number;
  facts: RunFacts;
  /** Images that were found unreadable, by index: those after them moved up in the batches. */
  bad_images: number[];
  rng_state: Tensor;
  /** Attention heads of a ViT, which its tensors do not tell. */
  num_heads: number | null;
  /** Height and width of a ViT's images, which a grid that is not square does not tell. Absent in pre-training. */
  image_size?: [number, number];
  /** Whether losses were scaled, so that the scaler's state means something. Absent in older files, whose state is empty where not. */
  scaled?: boolean;
  /** Of a pre-training that is watched: what is usual in it. See `StepWatch`. */
  stability?: string;
  /** Of one that goes back at spikes: the state to go back to. */
  rollback?: SavedSnapshot;
  /** Of a training with labels: the highest acc@1 so far, in percent, exactly. */
  best_acc1?: number | PythonFloat;
  /** Of a training with labels: names of the classes, in the order of the classifier's outputs. */
  classes?: string[];
}

/**
 * Our own part of a checkpoint's value, checked, or null in a file of another program.
 *
 * @throws ResumeError for one of another format, or with values that no run of ours saved
 */
export function readOwnPart(path: string, checkpoint: Record<string, unknown>): OwnPart | null {
  const own = checkpoint[OWN_KEY];
  if (own === undefined) return null;
  const part = (typeof own === "object" && own !== null ? own : {}) as Partial<Record<keyof OwnPart, unknown>>;
  if (typeof part.format === "number" && part.format !== OWN_FORMAT) {
    throw new ResumeError(
      `${path} was written by another version of this program (format ${part.format}, known is ${OWN_FORMAT}); use that version`,
    );
  }
  const facts = (typeof part.facts === "object" && part.facts !== null ? part.facts : {}) as Partial<Record<keyof RunFacts, unknown>>;
  const { bad_images: bad, rng_state: random } = part;
  const sound: Record<string, boolean> = {
    format: part.format === OWN_FORMAT,
    epoch: isCount(part.epoch),
    step: isCount(part.step),
    bad_images: Array.isArray(bad) && bad.every(isCount),
    rng_state: random instanceof Tensor && random.dtype === "uint8" && random.ndim === 1,
    stability: part.stability === undefined || isJson(part.stability),
    "facts.arch": typeof facts.arch === "string",
    "facts.seed": isCount(facts.seed),
    "facts.images": isCount(facts.images),
    "facts.stepsPerEpoch": isCount(facts.stepsPerEpoch),
    "facts.batchSize": isCount(facts.batchSize),
    "facts.recipe": typeof facts.recipe === "object" && facts.recipe !== null,
  };
  const damaged = Object.keys(sound).filter((name) => !sound[name]);
  if (damaged.length > 0) {
    throw new ResumeError(
      `${path} has a damaged record of its run (${damaged.map((name) => `${OWN_KEY}.${name}`).join(", ")}), so the exact place to go on ` +
        `from is lost; give another checkpoint of the run, or remove "${OWN_KEY}" from this one to begin with its epoch`,
    );
  }
  return own as OwnPart;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isJson(value: unknown): boolean {
  if (typeof value !== "string") return false;
  try {
    return typeof JSON.parse(value) === "object";
  } catch {
    return false;
  }
}
