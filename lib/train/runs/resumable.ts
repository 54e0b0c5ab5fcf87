import { recogniseCheckpoint, stripPrefix, type OrderedDict, type RecognisedCheckpoint } from "../../checkpoint/index.js";
import type { Tensor } from "../../torch/index.js";

/** A checkpoint cannot be resumed from: it is no pre-training checkpoint, or of another run. */
export class ResumeError extends Error {
  override readonly name = "ResumeError";
}

/** What a training can go on from. Only the network is in every file; released weights often have nothing else. */
export interface ResumableParts {
  /** Of the whole MoCo: `base_encoder.*`, `momentum_encoder.*`, `predictor.*`. */
  network: OrderedDict<string, Tensor>;
  /** As the file names it; where it does not, as the shapes tell it. */
  arch: string | null;
  /** Epochs that are done. */
  epoch: number | null;
  optimizer: unknown;
  /** Null where losses were not scaled. */
  scaler: object | null;
}

const PARTS = {
  base_encoder: "the encoder", momentum_encoder: "the momentum encoder", predictor: "the predictor",
} as const;

/**
 * Finds the parts of a pre-training in a checkpoint's value: ours, upstream's, or a state dict alone, with `module.` before its keys or
 * without.
 *
 * @throws ResumeError that says what the file is instead, and what it is good for
 */
export function resumableParts(path: string, value: unknown): ResumableParts {
  const recognised = recogniseCheckpoint(value);
  if (recognised.kind !== "moco-v3") throw new ResumeError(`${path} ${whatElse(recognised, path)}`);
  const network = stripPrefix(recognised.state);
  const missing = Object.entries(PARTS).filter(([part]) => ![...network.keys()].some((key) => key.startsWith(`${part}.`)));
  if (missing.length > 0) {
    throw new ResumeError(
      `${path} is of a pre-training, but without ${missing.map(([, name]) => name).join(" and ")} (no key begins with ` +
        `"${missing.map(([part]) => `${part}.`).join('", "')}"), so no training can go on from it; ${initInstead(path)}`,
    );
  }
  const holder: Record<string, unknown> = typeof value === "object" && value !== null && !(value instanceof Map) ? { ...value } : {};
  const epoch = holder.epoch === undefined || holder.epoch === null ? null : Number(holder.epoch);
  if (epoch !== null && (!Number.isSafeInteger(epoch) || epoch < 0)) {
    throw new ResumeError(
      `${path} has the epoch ${String(holder.epoch)}, which is no whole number from 0; the file is damaged or of another program`,
    );
  }
  return {
    network,
    arch: typeof holder.arch === "string" ? holder.arch : recognised.arch,
    epoch,
    optimizer: holder.optimizer ?? null,
    scaler: savedScale(holder.scaler),
  };
}

/** A saved state of the loss scale, or null; that of a run without scaling may be empty. */
export function savedScale(scaler: unknown): object | null {
  return typeof scaler === "object" && scaler !== null && Object.keys(scaler).length > 0 ? scaler : null;
}

function whatElse({ kind, family }: RecognisedCheckpoint, path: string): string {
  const nothingElse = "has no projector, predictor and momentum encoder that training could go on with";
  switch (kind) {
    case "linear-probe":
      return `is a linear probe: it holds an encoder and its classifier, and ${nothingElse}; ${initInstead(path)}`;
    case "encoder": case "deit": case "timm": case "torchvision": case "huggingface":
      return `holds an encoder alone (${FORMATS[kind]}), and ${nothingElse}; ${initInstead(path)}`;
    case "state-dict":
      if (family !== null) return `holds an encoder alone (a state dict), and ${nothingElse}; ${initInstead(path)}`;
      return "holds the weights of some other network, so no training can go on from it; give a checkpoint that pre-training saved";
    default:
      return "holds no network, so no training can go on from it; give a checkpoint that pre-training saved";
  }
}

const FORMATS = {
  encoder: "a file of moco convert", deit: "in DeiT's layout", timm: "in timm's layout", torchvision: "in torchvision's layout",
  huggingface: "in Hugging Face's layout",
};

function initInstead(path: string): string {
  return `begin a new run with its encoder: --init ${path}`;
}
