import { disposeTensors, readCheckpoint } from "../../checkpoint/index.js";
import { PixelNormalizer } from "../../data/index.js";
import { createMoCo, type MoCo, type MoCoOptions } from "../../moco/index.js";
import { gradientNorm, GradScaler, totalNorm } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import { ratesOnDevice } from "../graphs/ratesOnDevice.js";
import { createAutocast, resolveDevice } from "../options.js";
import type { Recipe } from "../pretrainOptions.js";
import { readOwnPart, type RunFacts } from "../runs/ownPart.js";
import { resumableParts } from "../runs/resumable.js";
import { computingType } from "../trainingStep.js";
import { FAILED_STEP_KEY, type FailedStep } from "./failedStep.js";
import { traceStep, type TraceFinding } from "./stepTrace.js";

/** A file cannot be replayed. */
export class ReplayError extends Error {
  override readonly name = "ReplayError";
}

/** How a failed step is done again. */
export interface ReplayOptions {
  /** Default: the run's own, where this machine has it, else the CPU. */
  device?: string;
  /** Threads of one operator on the CPU. Default: libtorch's choice. */
  threads?: number;
  /** Builds the run's encoder, where that was no architecture by name. */
  encoder?: MoCoOptions["encoder"];
}

/** What came out when a step was done again. */
export interface Replay {
  /** Counts from 0 over the whole run. */
  step: number;
  /** What stopped the run, in its own words. */
  message: string;
  device: string;
  precision: string;
  /** Names of the batch's images. */
  images: string[];
  loss: number;
  gradientNorm: number;
  weightNorm: number;
  /** First place that is not finite; null where there is none: the update would have overflowed, or it did not happen again. */
  finding: TraceFinding | null;
  /** Whether weights and gradients are finite and the update was what the run feared for. */
  update: boolean;
}

/**
 * Does the step again that stopped a run, from the file that it left: the same weights, views, momentum, precision and loss scale.
 *
 * @throws CheckpointError; ReplayError for a file without such a step, or whose encoder has no name
 * @example
 * const { finding } = await replayStep("runs/a/failed_step_001234.pth.tar");
 * console.log(finding?.module, finding?.operator); // base_encoder.blocks.7.mlp.fc2 linear
 */
export async function replayStep(path: string, options: ReplayOptions = {}): Promise<Replay> {
  if (options.threads !== undefined) torch.setNumThreads(options.threads);
  const value = await readCheckpoint<Record<string, unknown>>(path, { tagFloats: true });
  try {
    const failed = readFailedStep(path, value);
    const own = readOwnPart(path, value);
    if (own === null) throw new ReplayError(`${path} has no record of its run; give a failed_step_*.pth.tar as moco pretrain wrote it`);
    const device = deviceFor(options.device, failed.device);
    using moco = build(path, own.facts, options.encoder);
    moco.to(computingType({ precision: failed.precision as Recipe["precision"] })).loadStateDict(resumableParts(path, value).network);
    moco.to(device).train();
    return runStep(moco, failed, device);
  } finally {
    disposeTensors(value);
  }
}

function runStep(moco: MoCo, failed: FailedStep, device: string): Replay {
  const { step, message, momentum, names } = failed;
  const precision = failed.precision as Recipe["precision"];
  using scaler = new GradScaler({ enabled: precision === "fp16", initScale: failed.scale, device });
  const autocast = createAutocast({ precision, device });
  if (ratesOnDevice({ device, precision })) moco.keepMomentumOnDevice(); // as the run had it
  return torch.scope(() => {
    using normalizer = new PixelNormalizer(device);
    // A run in chunks keeps its views as bytes.
    const [x1, x2] = [failed.x1, failed.x2].map((view) => view.to(device))
      .map((view) => (view.dtype === "uint8" ? normalizer.apply(view) : view).to(computingType({ precision }))) as [Tensor, Tensor];
    const before = torch.noGrad(() => moco.namedBuffers().map(([, buffer]) => buffer.clone()));
    const momentumBefore = torch.noGrad(() => moco.momentumEncoder.parameters().map((parameter) => parameter.clone()));
    const plain = torch.scope(() => {
      const output = autocast(() => moco.forward(x1, x2, momentum));
      scaler.scale(output).backward();
      const parameters = moco.parameters();
      scaler.unscale_({ parameters: () => parameters, step: () => undefined });
      const learning = parameters.filter(({ requiresGrad }) => requiresGrad);
      return { loss: output.item(), gradientNorm: gradientNorm(parameters).item(), weightNorm: totalNorm(learning).item() };
    });
    moco.zeroGrad();
    torch.noGrad(() => {
      moco.namedBuffers().forEach(([, buffer], i) => buffer.copy_(before[i]!));
      moco.momentumEncoder.parameters().forEach((parameter, i) => parameter.copy_(momentumBefore[i]!));
    });
    const finding = traceStep(moco, () => scaler.scale(autocast(() => moco.forward(x1, x2, momentum))));
    const update = finding === null && failed.what === "update";
    return { step, message, device, precision, images: names, ...plain, finding, update };
  });
}

function build(path: string, { arch, recipe }: RunFacts, encoder: MoCoOptions["encoder"] | undefined): MoCo {
  if (encoder === undefined && arch === "custom") {
    throw new ReplayError(`${path} is of an encoder without a name; call replayStep from a program and give it as "encoder"`);
  }
  const count = (name: string): number | undefined => (recipe[name] == null ? undefined : Number(recipe[name]));
  return createMoCo({
    encoder: encoder ?? arch, imageSize: count("imageSize"), patchSize: count("patchSize"), stopGradConv1: recipe.stopGradConv1 === true,
    dim: count("dim"), mlpDim: count("mlpDim"), temperature: count("temperature"),
  });
}

function deviceFor(wanted: string | undefined, recorded: string): string {
  if (wanted !== undefined) return resolveDevice(wanted);
  return recorded.startsWith("cuda") && torch.cudaDeviceCount() === 0 ? "cpu" : recorded;
}

function readFailedStep(path: string, value: Record<string, unknown>): FailedStep {
  const failed = value[FAILED_STEP_KEY];
  const refuse = (why: string): never => {
    throw new ReplayError(`${path} ${why}; give a failed_step_*.pth.tar from the folder of a run that stopped at a value that is not finite`);
  };
  if (typeof failed !== "object" || failed === null) return refuse("holds no step to do again");
  const part = failed as Record<keyof FailedStep, unknown>;
  const { x1, x2, names } = part;
  if (!(x1 instanceof Tensor && x2 instanceof Tensor && x1.ndim === 4 && Array.isArray(names))) return refuse("has a damaged record of its step");
  const numbers = { step: Number(part.step), lr: Number(part.lr), momentum: Number(part.momentum), scale: Number(part.scale) };
  if (!Object.values(numbers).every(Number.isFinite)) return refuse("has a damaged record of its step");
  return { ...(part as FailedStep), ...numbers };
}
