import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describeRun, type BenchmarkResult } from "../bench/result.js";
import { compareKnn } from "./compareKnn.js";
import { compareFinetuning, compareProbes } from "./compareTrainings.js";
import { dataSets, type DataName } from "./dataSets.js";
import { finetunings, knn, probeFlags, type MethodName } from "./methods.js";
import { requirePeer } from "./pytorch.js";
import { prepare, type ComparisonOptions } from "./prepared.js";
import type { Comparison } from "./table.js";

export interface WholeComparisonOptions extends ComparisonOptions {
  data: readonly DataName[];
  methods: readonly MethodName[];
  /** Seeds of each training, counted from 0. */
  seeds: number;
  /** Where images and checkpoints are written. */
  folder: string;
}

export interface ComparisonResult extends Omit<BenchmarkResult, "ratios" | "meanings" | "raw"> {
  comparisons: Comparison[];
  /** By data set: largest difference of a feature between the sides, over the largest feature. */
  featureDifferences: Partial<Record<DataName, number>>;
  seconds: number;
}

/** Judges each data set's encoder by each method on both sides. */
export async function runComparison(options: WholeComparisonOptions): Promise<ComparisonResult> {
  const started = performance.now();
  const { python, data, methods, quick, threads } = options;
  const libraries = requirePeer(options);
  const seeds = Array.from({ length: quick ? 2 : options.seeds }, (_, seed) => seed);
  const comparisons: Comparison[] = [];
  const featureDifferences: ComparisonResult["featureDifferences"] = {};
  for (const name of data) {
    const folder = join(options.folder, quick ? `${name}-quick` : name);
    mkdirSync(folder, { recursive: true });
    const prepared = await prepare(name, dataSets[name], folder, options);
    if (methods.includes("knn")) {
      const found = await compareKnn(prepared);
      comparisons.push(...found.comparisons);
      featureDifferences[name] = found.featureDifference;
    }
    if (methods.includes("lincls")) comparisons.push(await compareProbes(prepared, seeds));
    if (methods.includes("finetune")) {
      for (const recipe of dataSets[name].finetunings) comparisons.push(await compareFinetuning(prepared, recipe, seeds));
    }
  }
  const pretraining = Object.fromEntries(data.map((name) => [name, { encoder: dataSets[name].encoder, ...dataSets[name].pretraining }]));
  const settings = { seeds: seeds.length, threads, pretraining, knn, lincls: probeFlags({ quick }).join(" "), finetune: finetunings };
  const run = describeRun("compare", python, settings);
  return {
    ...run, versions: { ...run.versions, ...libraries }, comparisons, featureDifferences, seconds: Math.round((performance.now() - started) / 1000),
  };
}
