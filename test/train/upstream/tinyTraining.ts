/** Trainings of a few steps on fixed batches, for comparison with upstream's. */
import { writeCheckpoint } from "../../../lib/checkpoint/index.js";
import { createMoCo } from "../../../lib/moco/index.js";
import { ResNet, VisionTransformer } from "../../../lib/models/index.js";
import { AdamW, GradScaler, LARS, learningRateAt, momentumAt } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { DType, Tensor } from "../../../lib/torch/index.js";
import { pretrain } from "../../../lib/train/pretrain.js";
import type { Ranks } from "../../../lib/train/ranks/ranks.js";
import { trainingStateValue, type RunFacts, type Trainee } from "../../../lib/train/runs/trainingState.js";
import type { Position } from "../../../lib/train/runs/checkpointFiles.js";
import { numbers } from "../../support/digest.js";
import { fixturePath } from "../../support/fixtures.js";
import { formulaUnit } from "../../support/formula.js";

/** What `run_upstream.py` takes as sizes, by the architecture's name. */
export type Arch =
  | { vit_tiny: { img_size: number; patch_size: number; embed_dim: number; depth: number; num_heads: number; stop_grad_conv1?: boolean } }
  | { resnet_tiny: { layers: [number, number, number, number]; width: number } };

export interface Batches {
  seed: number;
  size: number;
  image: number;
  perEpoch: number;
  classes?: number;
}

/** Upstream's options of a training, under its own names. */
export interface Options {
  optimizer: "adamw" | "lars";
  lr: number;
  wd: number;
  "moco-t": number;
  "moco-m": number;
  "moco-dim": number;
  "moco-mlp-dim": number;
  epochs: number;
  "warmup-epochs": number;
  "batch-size": number;
}

export interface TinyTraining {
  arch: Arch;
  batches: Batches;
  options: Options;
  scaler: boolean;
}

const facts = (training: TinyTraining): RunFacts => ({
  arch: archName(training), seed: 1, images: 16, stepsPerEpoch: training.batches.perEpoch, batchSize: training.batches.size, recipe: {},
});

export function archName({ arch }: { arch: Arch }): string {
  return Object.keys(arch)[0] as string;
}

export function encoderOf(arch: Arch): (numClasses: number) => VisionTransformer | ResNet {
  if ("resnet_tiny" in arch) {
    return (numClasses) => new ResNet({ block: "basic", ...arch.resnet_tiny, numClasses, zeroInitResidual: true });
  }
  const { img_size: imageSize, patch_size: patchSize, embed_dim: embedDim, depth, num_heads: numHeads, stop_grad_conv1: stop } = arch.vit_tiny;
  return (numClasses) => new VisionTransformer({ imageSize, patchSize, embedDim, depth, numHeads, numClasses, stopGradConv1: stop });
}

/** Two epochs of a real run on photographs; returns the path of its checkpoint. */
export async function pretrainHere(out: string, training: TinyTraining): Promise<string> {
  const { options, batches } = training;
  const { moco, checkpoint } = await pretrain({
    data: fixturePath("augment/files"), encoder: encoderOf(training.arch), arch: archName(training), imageSize: batches.image,
    optimizer: options.optimizer, baseLr: options.lr, weightDecay: options.wd, temperature: options["moco-t"], mCos: true,
    dim: 8, mlpDim: 16, batchSize: 4, epochs: 2, warmupEpochs: 1, seed: 3, workers: 1, threads: 1, device: "cpu", maxBad: 0.5, out,
  });
  moco.dispose();
  return checkpoint!;
}

/** A new training; its random weights do not matter, as a checkpoint replaces them. */
export function buildTrainee({ arch, options, scaler }: TinyTraining, dtype: DType): Trainee {
  const moco = createMoCo({
    encoder: encoderOf(arch), dim: options["moco-dim"], mlpDim: options["moco-mlp-dim"], temperature: options["moco-t"],
  });
  moco.to(dtype).train();
  const parameters = moco.parameters();
  const optimizer = options.optimizer === "adamw" ? new AdamW(parameters, { weightDecay: options.wd }) : new LARS(parameters, { weightDecay: options.wd });
  return { moco, optimizer, scaler: new GradScaler({ enabled: scaler }) };
}

export function disposeTrainee({ moco, optimizer, scaler }: Trainee): void {
  optimizer.zeroGrad();
  optimizer.dispose();
  scaler.dispose();
  moco.dispose();
}

/** Writes the checkpoint that `pretrain` writes at a position. */
export async function save(path: string, trainee: Trainee, position: Position, training: TinyTraining, arch = archName(training)): Promise<void> {
  const value = trainingStateValue(trainee, position, { ...facts(training), arch }, []);
  await writeCheckpoint(path, value);
  value.moco_v3_run.rng_state.dispose();
}

/** The batch of a step, the same in `run_upstream.py`. */
export function views({ seed, size, image }: Batches, step: number, dtype: DType): [Tensor, Tensor] {
  const view = (number: number): Tensor =>
    torch.tensor(formulaUnit(`x${number}_${step}`, seed, size * 3 * image * image), [size, 3, image, image]).to(dtype);
  return [view(1), view(2)];
}

/** Trains epochs `from` to `to` (exclusive), step for step as `pretrain` does, and returns the losses. */
export function trainEpochs(trainee: Trainee, training: TinyTraining, from: number, to: number, dtype: DType, ranks?: Ranks): number[] {
  const { perEpoch } = training.batches;
  const losses: number[] = [];
  for (let step = from * perEpoch; step < to * perEpoch; step++) {
    torch.scope(() => losses.push(trainStep(trainee, training.options, step / perEpoch, views(training.batches, step, dtype), ranks)));
  }
  return losses;
}

/** One step at a fractional epoch; returns the loss, of this rank's every so many rows. */
export function trainStep({ moco, optimizer, scaler }: Trainee, options: Options, epoch: number, whole: [Tensor, Tensor], ranks?: Ranks): number {
  const [x1, x2] = ranks === undefined ? whole : (whole.map((view) => view.slice(0, ranks.rank, null, ranks.size)) as [Tensor, Tensor]);
  const { epochs } = options;
  const lr = (options.lr * options["batch-size"]) / 256;
  optimizer.setLearningRate(learningRateAt(epoch, { lr, epochs, warmupEpochs: options["warmup-epochs"] }));
  const output = moco.forward(x1, x2, momentumAt(epoch, { momentum: options["moco-m"], epochs }));
  ranks?.prepare();
  scaler.scale(output).backward();
  scaler.unscale_(optimizer);
  scaler.step(optimizer);
  scaler.update();
  optimizer.zeroGrad();
  return Number(output.item());
}

/** Every value of a training under upstream's names: the network's in its order, then the optimiser's by index. */
export function valuesOf({ moco, optimizer }: Trainee): Map<string, Float64Array> {
  const values = new Map([...moco.stateDict()].map(([key, tensor]) => [`state_dict.${key}`, numbers(tensor)]));
  const { state } = optimizer.stateDict();
  for (const [index, tensors] of [...state].sort(([a], [b]) => a - b)) {
    for (const [key, tensor] of tensors) values.set(`optimizer.${index}.${key}`, numbers(tensor));
  }
  return values;
}
