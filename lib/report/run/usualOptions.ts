/** Which command wrote a log. */
export type RunKind = "pretrain" | "lincls" | "finetune";

/** Told by options that only one kind of training has. */
export function runKind(options: Record<string, unknown>): RunKind {
  if ("rates" in options) return "lincls";
  if ("mixing" in options) return "finetune";
  return "pretrain";
}

export const kindWords: Record<RunKind, { title: string; usual: string }> = {
  pretrain: { title: "pre-training", usual: "upstream's main_moco.py" },
  lincls: { title: "linear probe", usual: "upstream's main_lincls.py" },
  finetune: { title: "fine-tuning", usual: "DeiT's program" },
};

/** Options that say where and how a run is done, and not what it trains: they have no usual value, or it is this machine's. */
const placeOptions = new Set([
  "data", "val", "out", "resume", "autoResume", "startEpoch", "seed", "device", "threads", "workers", "worldSize", "images", "shuffleBuffer",
  "stopAfter", "evaluate", "pretrained", "init", "knnData", "arch", "encoder", "numClasses", "numHeads", "imageSize", "precision", "cacheImages",
  "featureMemory", "saveInBackground", "rates", "group", "loggers",
]);

type Usual = Record<string, unknown>;

const pretrain: Usual = {
  encoder: "resnet50", imageSize: 224, patchSize: null, stopGradConv1: false, dim: 256, mlpDim: 4096, temperature: 1, m: 0.99, mCos: false,
  optimizer: "lars", weightDecay: 1e-6, momentum: 0.9, betas: [0.9, 0.999], epochs: 100, warmupEpochs: 10, batchSize: 4096,
  microBatch: null, cropMin: 0.08, augmentation: null, exif: false, augment: "cpu", deterministic: false, maxBad: 0.01, saveEveryEpochs: 1,
  saveEverySteps: 0, keep: null, keepEvery: null, clipGrad: null, watch: true, onSpike: "warn", spikeRatio: 10, rollbackSteps: 100,
  knnEvery: null, knnImages: null,
};

const lincls: Usual = {
  imageSize: 224, epochs: 90, batchSize: 1024, sweep: null, momentum: 0.9, weightDecay: 0, cropMin: 0.08, cacheFeatures: false, cacheViews: 0,
  exif: false, maxBad: 0.01, precision: "fp32",
};

const finetune: Usual = {
  imageSize: 224, optimizer: "adamw", weightDecay: 0.05, layerDecay: 1, momentum: 0.9, betas: [0.9, 0.999], eps: 1e-8, clipGrad: null,
  epochs: 100, batchSize: 64, warmupEpochs: 5, warmupLr: 1e-6, minLr: 1e-5, schedule: "step", smoothing: 0.1,
  mixing: { mixupAlpha: 0.8, cutmixAlpha: 1, probability: 1, switchProbability: 0.5 },
  repeats: 1, exif: false, averageDecay: null, deterministic: false, maxBad: 0.01,
};

const usualOf: Record<RunKind, Usual> = { pretrain, lincls, finetune };
/** Learning rate for one image, which the batch multiplies. */
const usualRate: Record<RunKind, number> = { pretrain: 0.6 / 256, lincls: 0.1 / 256, finetune: 5e-4 / 512 };

/** An option of a run, and what it would be without being asked for. */
export interface OptionLine {
  name: string;
  value: string;
  /** Null where nothing is usual, as for a path. */
  usual: string | null;
  differs: boolean;
}

/**
 * A run's options against the usual ones: upstream's defaults, or DeiT's for fine-tuning. The learning rate is compared with the
 * usual one for the run's batch size.
 */
export function optionLines(options: Record<string, unknown>): OptionLine[] {
  const usual = usualOptions(options);
  return Object.entries(options).map(([name, value]) => {
    const known = Object.hasOwn(usual, name);
    const differs = known && !alike(value, usual[name]);
    return { name, value: optionText(value), usual: known ? optionText(usual[name]) : null, differs };
  });
}

/** The usual value of each option that has one. */
export function usualOptions(options: Record<string, unknown>): Record<string, unknown> {
  const kind = runKind(options);
  const { batchSize } = options;
  return { ...usualOf[kind], ...(typeof batchSize === "number" ? { lr: usualRate[kind] * batchSize } : {}) };
}

/** Options in which runs differ, with each run's value; places and paths are left out unless they are all that differs. */
export function differingOptions(runs: readonly Record<string, unknown>[]): { name: string; values: string[] }[] {
  const names = [...new Set(runs.flatMap((options) => Object.keys(options)))];
  const lines = names.map((name) => ({ name, values: runs.map((options) => (Object.hasOwn(options, name) ? optionText(options[name]) : "–")) }));
  const differing = lines.filter(({ values }) => new Set(values).size > 1);
  return [...differing.filter(({ name }) => !placeOptions.has(name)), ...differing.filter(({ name }) => placeOptions.has(name))];
}

function optionText(value: unknown): string {
  if (value === null || value === undefined) return "none";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return Number(value.toPrecision(12)).toString();
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(optionText).join(", ");
  const entries = Object.entries(value);
  return entries.length === 0 ? "none" : entries.map(([name, each]) => `${name}: ${optionText(each)}`).join(", ");
}

function alike(a: unknown, b: unknown): boolean {
  if (typeof a === "number" && typeof b === "number") return Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
  return JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
}
