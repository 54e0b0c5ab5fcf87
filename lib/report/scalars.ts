import type { LogEntry, StepEntry, StepSignals } from "./runLog.js";

/** One number of a training, under the name that PyTorch's users look for. */
export interface Scalar {
  tag: string;
  value: number;
}

/** The numbers of an entry of the log, and the step that they belong to. */
export interface EntryScalars {
  step: number;
  epoch: number;
  scalars: Scalar[];
}

/**
 * Tags that do not depend on the network. Those of single blocks come on top: `stability/gradient_norm_block/00`.
 * Accuracies are in percent, times in milliseconds.
 */
export const scalarTags = [
  "train/loss", "train/lr", "train/momentum", "train/acc1", "train/gradient_norm", "train/scale",
  "speed/images_per_second", "speed/data_wait_ms", "speed/step_ms",
  "stability/gradient_norm_stem", "stability/gradient_norm_projector", "stability/gradient_norm_predictor",
  "stability/stem_ratio", "stability/first_block_ratio", "stability/encoder_distance",
  "stability/contrast_accuracy", "stability/positive", "stability/negative", "stability/query_spread", "stability/key_spread",
  "stability/loss_over_chance",
  "knn/acc1", "knn/acc5", "val/acc1", "val/acc5", "val/loss", "val_average/acc1", "val_average/acc5", "val_average/loss",
] as const;

export type ScalarTag = (typeof scalarTags)[number];

type Values = Partial<Record<ScalarTag, number | null>>;

/**
 * The numbers of an entry; null for one that has none. What comes after an epoch has the number of the epoch's last step, so that a run
 * which is resumed after the epoch keeps it and one that is resumed before does it again.
 */
export function scalarsOf(entry: LogEntry, stepsPerEpoch: number): EntryScalars | null {
  switch (entry.kind) {
    case "step":
      return { step: entry.step, epoch: entry.epoch, scalars: [...present(stepValues(entry)), ...blockNorms(entry.signals)] };
    case "knn":
      return ofEpoch(entry.epoch, stepsPerEpoch, { "knn/acc1": entry.acc1, "knn/acc5": entry.acc5 });
    case "evaluation": {
      const { acc1, acc5, loss, average } = entry;
      return ofEpoch(entry.epoch, stepsPerEpoch, {
        "val/acc1": acc1, "val/acc5": acc5, "val/loss": loss,
        "val_average/acc1": average?.acc1, "val_average/acc5": average?.acc5, "val_average/loss": average?.loss,
      });
    }
    default:
      return null;
  }
}

function ofEpoch(epoch: number, stepsPerEpoch: number, values: Values): EntryScalars {
  return { step: (epoch + 1) * stepsPerEpoch - 1, epoch, scalars: present(values) };
}

function stepValues({ loss, lr, momentum, acc1, gradientNorm, scale, imagesPerSecond, dataWaitMs, stepMs, signals }: StepEntry): Values {
  const { gradients, contrast } = signals ?? {};
  return {
    "train/loss": loss, "train/lr": lr, "train/momentum": momentum, "train/acc1": acc1, "train/gradient_norm": gradientNorm, "train/scale": scale,
    "speed/images_per_second": imagesPerSecond, "speed/data_wait_ms": dataWaitMs, "speed/step_ms": stepMs,
    "stability/gradient_norm_stem": gradients?.stem, "stability/gradient_norm_projector": gradients?.projector,
    "stability/gradient_norm_predictor": gradients?.predictor,
    "stability/stem_ratio": signals?.stemRatio, "stability/first_block_ratio": signals?.firstBlockRatio,
    "stability/encoder_distance": signals?.encoderDistance,
    "stability/contrast_accuracy": contrast?.accuracy, "stability/positive": contrast?.positive, "stability/negative": contrast?.negative,
    "stability/query_spread": contrast?.querySpread, "stability/key_spread": contrast?.keySpread, "stability/loss_over_chance": contrast?.lossOverChance,
  };
}

function blockNorms(signals: StepSignals | undefined): Scalar[] {
  const blocks = signals?.gradients?.blocks ?? [];
  return blocks.map((value, block) => ({ tag: `stability/gradient_norm_block/${String(block).padStart(2, "0")}`, value }));
}

function present(values: Values): Scalar[] {
  return Object.entries(values).flatMap(([tag, value]) => (value === undefined || value === null ? [] : [{ tag, value }]));
}

/** A run's options as one flat list of names and words: `{ mixing: { mixupAlpha: 0.8 } }` gives `mixing.mixupAlpha`. */
export function flatOptions(options: Record<string, unknown>, prefix = ""): [name: string, value: string | number | boolean][] {
  return Object.entries(options).flatMap(([key, value]): [string, string | number | boolean][] => {
    const name = `${prefix}${key}`;
    if (value === null || value === undefined || typeof value === "function") return [];
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return [[name, value]];
    if (Array.isArray(value)) return [[name, JSON.stringify(value)]];
    return flatOptions(value as Record<string, unknown>, `${name}.`);
  });
}
