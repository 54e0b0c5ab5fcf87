import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../bench/peer.js";
import { AccuracyStore } from "./accuracyStore.js";
import { finetunings, probeFlags, type FinetuneRecipe, type FinetuningName } from "./methods.js";
import { moco } from "./ours.js";
import { jobOf, type Prepared } from "./prepared.js";
import { startPytorch, type TrainingAnswer } from "./pytorch.js";
import { compareSides } from "./statistics.js";
import type { SeededComparison } from "./table.js";

/** Linear probes: `moco lincls` and upstream's own program. */
export function compareProbes(prepared: Prepared, seeds: readonly number[]): Promise<SeededComparison> {
  const { python, data, checkpoint, classes } = prepared;
  const flags = probeFlags(prepared);
  const peer = startPytorch(python, "linear", { ...jobOf(prepared), classes, args: flags });
  const ours = (seed: number): Promise<number> => {
    return trainOurs(prepared, ["lincls", data, "--pretrained", checkpoint, ...flags, "--seed", String(seed)]);
  };
  return compareSeeds(prepared, "linear probe", { recipe: flags, seeds, ours, peer });
}

/** End-to-end fine-tuning: `moco finetune` and timm's classes. */
export function compareFinetuning(prepared: Prepared, name: FinetuningName, seeds: readonly number[]): Promise<SeededComparison> {
  const { python, data, checkpoint, quick } = prepared;
  const recipe: FinetuneRecipe = { ...finetunings[name], ...(quick ? { epochs: 2, warmupEpochs: 1, batchSize: 32 } : {}) };
  const peer = startPytorch(python, "finetune", { ...jobOf(prepared), recipe });
  const ours = (seed: number): Promise<number> => {
    return trainOurs(prepared, ["finetune", data, "--pretrained", checkpoint, ...finetuneFlags(recipe), "--seed", String(seed)]);
  };
  return compareSeeds(prepared, `fine-tuning, ${name}`, { recipe, seeds, ours, peer });
}

/** Trains with one of our commands; gives the accuracy after its last epoch. */
async function trainOurs({ folder, threads }: Prepared, words: readonly string[]): Promise<number> {
  const out = mkdtempSync(join(folder, `${words[0]}-`));
  try {
    const { acc1 } = await moco<{ acc1: number }>([...words, "--out", out, "--device", "cpu", "-j", "1"], threads);
    return acc1 / 100;
  } finally {
    rmSync(out, { recursive: true });
  }
}

interface Sides {
  /** What both follow, as far as the method does not say it. */
  recipe: unknown;
  seeds: readonly number[];
  /** Accuracy of ours with a seed. */
  ours(seed: number): Promise<number>;
  /** Answers seeds. */
  peer: Peer;
}

/** Trains both sides at once, seed by seed. */
async function compareSeeds(prepared: Prepared, method: string, { recipe, seeds, ours, peer }: Sides): Promise<SeededComparison> {
  const { name, title, folder, judged, onProgress } = prepared;
  const store = new AccuracyStore(join(folder, "accuracies.json"));
  const trained = async (side: string, train: (seed: number) => Promise<number>): Promise<number[]> => {
    const accuracies: number[] = [];
    for (const seed of seeds) {
      const accuracy = await store.get({ method, side, seed, recipe }, () => train(seed));
      onProgress?.(`${name}: ${method}, seed ${seed}: ${side} ${accuracy.toFixed(4)}`);
      accuracies.push(accuracy);
    }
    return accuracies;
  };
  try {
    const [mine, theirs] = await Promise.all([
      trained("ours", ours), trained("PyTorch", async (seed) => (await peer.ask<TrainingAnswer>(String(seed))).acc1),
    ]);
    return { data: title, method, images: judged, ours: mine, theirs, agreement: compareSides(mine, theirs, judged) };
  } finally {
    peer.close();
  }
}

/** The recipe as flags of `moco finetune`. */
function finetuneFlags(recipe: FinetuneRecipe): string[] {
  const flags = {
    epochs: recipe.epochs, "batch-size": recipe.batchSize, lr: (recipe.lr * 512) / recipe.batchSize, "min-lr": recipe.minLr,
    "warmup-lr": recipe.warmupLr, "warmup-epochs": recipe.warmupEpochs, wd: recipe.weightDecay, "color-jitter": recipe.colorJitter,
    aa: recipe.autoAugment ?? "none", reprob: recipe.erasing, mixup: recipe.mixup, cutmix: recipe.cutmix, smoothing: recipe.smoothing,
    "drop-path": recipe.dropPath,
  };
  return Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
}
