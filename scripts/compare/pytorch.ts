import { fileURLToPath } from "node:url";
import { Peer } from "../bench/peer.js";
import type { EncoderSizes } from "./dataSets.js";
import type { FinetuneRecipe } from "./methods.js";

/** What every program of PyTorch's side is told. */
export interface PytorchJob {
  /** Checkout of facebookresearch/moco-v3. */
  upstream: string;
  /** An image folder with `train/` and `val/`. */
  data: string;
  checkpoint: string;
  encoder: EncoderSizes;
  /** Of one operator. */
  threads: number;
}

export interface KnnAnswer {
  /** By k. */
  accuracy: Record<string, number>;
  /** By k: queries whose first two classes have as good as equal votes. */
  ties: Record<string, number>;
  trainLabels: number[];
  valLabels: number[];
}

/** What a training with one seed ends with; accuracies are fractions. */
export interface TrainingAnswer {
  /** After the last epoch. */
  acc1: number;
  /** After each epoch. */
  epochs: number[];
}

/** Starts one of the programs of `peers/`, which answers each line that it is asked. */
export function startPytorch(python: string, program: "knn", job: PytorchJob & { ks: readonly number[]; temperature: number; features: string }): Peer;
export function startPytorch(python: string, program: "linear", job: PytorchJob & { classes: number; args: string[] }): Peer;
export function startPytorch(python: string, program: "finetune", job: PytorchJob & { recipe: FinetuneRecipe }): Peer;
export function startPytorch(python: string, program: string, job: PytorchJob): Peer {
  const script = fileURLToPath(new URL(`../../../scripts/compare/peers/${program}.py`, import.meta.url));
  return new Peer(`${program}.py`, python, [script, JSON.stringify(job)], { OMP_NUM_THREADS: String(job.threads) });
}
