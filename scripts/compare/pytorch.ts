import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Peer } from "../bench/peer.js";
import type { EncoderSizes } from "./dataSets.js";
import { ComparisonError } from "./errors.js";
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

/**
 * Finds out, before any time goes into encoders, whether PyTorch's side can run.
 *
 * @returns versions of its libraries
 * @throws ComparisonError that says what is missing
 */
export function requirePeer({ python, upstream }: { python: string; upstream: string }): Record<"torchvision" | "timm" | "pillow", string> {
  for (const file of ["vits.py", "main_lincls.py"]) {
    if (existsSync(join(upstream, file))) continue;
    throw new ComparisonError(`${upstream} has no ${file}; give a checkout of facebookresearch/moco-v3 to --upstream`);
  }
  const code = "import json, PIL, timm, torchvision; " +
    "print(json.dumps({'torchvision': torchvision.__version__, 'timm': timm.__version__, 'pillow': PIL.__version__}))";
  let versions: Record<"torchvision" | "timm" | "pillow", string>;
  try {
    versions = JSON.parse(execFileSync(python, ["-W", "ignore", "-c", code], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })) as typeof versions;
  } catch (error) {
    const reason = (error as { stderr?: string }).stderr?.trim().split("\n").at(-1) || (error as Error).message;
    throw new ComparisonError(`${python} does not import torchvision, timm and Pillow (${reason}); give another to --python`, { cause: error });
  }
  if (versions.timm === "0.4.9") return versions;
  throw new ComparisonError(`${python} has timm ${versions.timm}, and upstream's classes need 0.4.9; put that first, such as by PYTHONPATH`);
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
