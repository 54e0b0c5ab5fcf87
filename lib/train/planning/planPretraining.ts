import { resolve } from "node:path";
import { openImages, requireImages } from "../../data/index.js";
import { createMoCo } from "../../moco/index.js";
import { OptionError } from "../options.js";
import { resolveOptions, type PretrainOptions, type Recipe } from "../pretrainOptions.js";
import { allocatorFactor, withAllocator } from "./allocator.js";
import { planCheckpoints, type CheckpointPlan } from "./checkpointPlan.js";
import { chooseChunk, type ChunkChoice } from "./chunkChoice.js";
import { freeDisk, gpuFacts, machineFacts, type GpuFacts, type MachineFacts } from "./machine.js";
import { measureDisk } from "./measureDisk.js";
import { measureLoading, type LoadingSpeed } from "./measureLoading.js";
import { planMemory, stateBytes, type MemoryPlan, type MemorySetting } from "./memoryPlan.js";
import { encoderStepFlop, networkCost, stepFlop, type NetworkCost } from "./networkCost.js";
import { computeSeconds, fitStepTime, paceOf, type Pace, type StepTime } from "./timePlan.js";
import { runTrial, type TrialReport, type TrialRequest } from "./trialRun.js";

/** What a training will need on this machine. Bytes and seconds. */
export interface PretrainPlan {
  arch: string;
  device: string;
  precision: string;
  batchSize: number;
  images: number;
  epochs: number;
  stepsPerEpoch: number;
  /** Images encoded at a time, as the recipe asks; null for the whole batch. */
  microBatch: number | null;
  machine: MachineFacts;
  gpu: GpuFacts | null;
  network: { parameters: number; gflopPerImage: number };
  /** What was measured on the spot. */
  measured: {
    trial: TrialReport;
    /** Measured over derived memory beyond the process's own: what the allocator adds. */
    allocator: number;
    stepTime: StepTime;
    /** Multiplications and additions a second in large batches. */
    flopPerSecond: number;
    loading: LoadingSpeed;
    diskBytesPerSecond: number;
    seconds: number;
  };
  /** Of the recipe as it is. */
  memory: MemoryPlan;
  /** Of the device that trains: what may be used. */
  usableBytes: number;
  /** Whether that fits, and else how many images to encode at a time. */
  chunk: ChunkChoice;
  /** Of the recipe as it is, or in the chunks with which it fits. */
  pace: Pace & { epochSeconds: number; trainingSeconds: number; imagesPerSecond: number; threads: number };
  checkpoints: CheckpointPlan & { folder: string; freeBytes: number };
}

/** What {@link planPretraining} tells while it measures. */
export interface PlanHooks {
  /** What is being measured now. */
  onStage?(what: string): void;
}

/** Share of the memory there is that a training may be planned for; the system and the file cache want the rest. */
const USABLE = 0.92;
/** A trial's arithmetic should be about this on a CPU, so that it takes seconds. */
const TRIAL_FLOP = 1e12;

/**
 * Says before a training what it will need on this machine, and which `--micro-batch` makes it fit: memory, time, disk. Does a few real steps
 * at a tiny batch in a process of their own, makes views of some of the images and writes a file for a second; the rest is computed from the
 * network's layers. Nothing of the run is written.
 *
 * @throws OptionError for a recipe that cannot run, or an encoder given as a function; the errors of the images; TrialError
 * @example
 * const { memory, pace, chunk } = await planPretraining({ data: "photos", encoder: "vit_small", optimizer: "adamw", batchSize: 256 });
 */
export async function planPretraining(options: PretrainOptions, hooks: PlanHooks = {}): Promise<PretrainPlan> {
  const started = performance.now();
  const recipe = resolveOptions(options);
  const { encoder, device, batchSize, precision } = recipe;
  if (typeof encoder !== "string") throw new OptionError("encoder is a function; a plan needs the name of an architecture, which its trial steps build anew");
  if (precision === "fp64") throw new OptionError("precision is fp64, which is for comparing trainings and has no plan; give fp32, bf16 or fp16");
  const { images: length, shuffleBuffer } = options;
  const source = typeof options.data === "string" ? await openImages(options.data, { length, shuffleBuffer }) : options.data;
  requireImages(source, batchSize);
  const onGpu = device !== "cpu";
  const machine = machineFacts();
  const gpu = onGpu ? gpuFacts(Number(device.split(":")[1] ?? 0)) : null;
  const network = costOf(recipe);

  hooks.onStage?.("steps at a tiny batch");
  const trial = await runTrial(trialRequest(recipe, network));
  hooks.onStage?.("loading");
  const loading = await measureLoading(source, recipe);
  hooks.onStage?.("disk");
  const { folder, bytes: freeBytes } = await freeDisk(resolve(options.out ?? "."));
  const diskBytesPerSecond = await measureDisk(folder);

  const setting: MemorySetting = {
    batch: batchSize, chunk: recipe.microBatch, imageSize: [recipe.imageSize, recipe.imageSize], precision, optimizer: recipe.optimizer,
    onGpu, augment: recipe.augment, saveInBackground: recipe.out !== null && recipe.saveInBackground,
    ...(trial.baseBytes !== null && !onGpu && { baseBytes: trial.baseBytes }),
  };
  const allocator = allocatorFactor(network, setting, trial);
  const memoryWith = (batch: number, chunk: number | null): MemoryPlan => withAllocator(planMemory(network, { ...setting, batch, chunk }), allocator);
  const memory = memoryWith(batchSize, recipe.microBatch);
  const usableBytes = USABLE * (onGpu ? (gpu?.availableBytes ?? Infinity) : machine.availableBytes);
  const chunk = chooseChunk({
    batchSize, asked: recipe.microBatch, usableBytes, bytesWith: (batch, each) => memoryWith(batch, each).training.bytes, batchNorms: network.encoder.batchNorms,
  });

  const microBatch = chunk.microBatch ?? recipe.microBatch;
  const stepTime = fitStepTime(trial.steps);
  const stepsPerEpoch = Math.floor(source.length / batchSize);
  const threads = Math.min(recipe.workers, machine.cores);
  const pace = paceOf({
    batch: batchSize, compute: computeSeconds(stepTime, batchSize, microBatch), imagesPerCoreSecond: loading.imagesPerCoreSecond, threads,
    cores: machine.cores, onGpu,
  });
  const checkpoints = planCheckpoints(recipe, stateBytes(network, recipe.optimizer).checkpoint, recipe.epochs * stepsPerEpoch, diskBytesPerSecond);
  const epochSeconds = pace.stepSeconds * stepsPerEpoch;
  return {
    arch: recipe.arch, device, precision: recipe.precision, batchSize, images: source.length, epochs: recipe.epochs, stepsPerEpoch, microBatch: recipe.microBatch, machine, gpu,
    network: { parameters: network.baseParameters, gflopPerImage: encoderStepFlop(network) / 1e9 },
    measured: {
      trial, allocator, stepTime, flopPerSecond: stepFlop(network) / stepTime.perImage, loading, diskBytesPerSecond,
      seconds: (performance.now() - started) / 1000,
    },
    memory, usableBytes, chunk,
    pace: { ...pace, epochSeconds, trainingSeconds: epochSeconds * recipe.epochs, imagesPerSecond: batchSize / pace.stepSeconds, threads },
    checkpoints: { ...checkpoints, folder, freeBytes },
  };
}

/** The costs of a recipe's network, read off one that is built for it. */
export function costOf(
  recipe: Pick<Recipe, "encoder" | "imageSize" | "patchSize" | "stopGradConv1" | "dim" | "mlpDim">,
): NetworkCost {
  using moco = createMoCo({
    encoder: recipe.encoder, imageSize: recipe.imageSize, patchSize: recipe.patchSize ?? undefined, stopGradConv1: recipe.stopGradConv1,
    dim: recipe.dim, mlpDim: recipe.mlpDim,
  });
  return networkCost(moco);
}

/** Batches of a trial: two sizes, so that a step's fixed cost and an image's show. */
function trialRequest(recipe: Recipe, network: NetworkCost): TrialRequest {
  const { encoder, imageSize, patchSize, stopGradConv1, dim, mlpDim, temperature, optimizer, precision, device, threads, deterministic } = recipe;
  const onGpu = device !== "cpu";
  // A CPU takes 3 times the smaller batch's images in each repetition; a GPU would only launch kernels at such sizes.
  const affordable = 2 ** Math.floor(Math.log2(TRIAL_FLOP / (6 * stepFlop(network))));
  const small = onGpu ? 64 : Math.min(Math.max(2, affordable), 32);
  const sizes = [small, 2 * small].map((size) => Math.min(size, recipe.batchSize));
  return {
    options: {
      encoder, imageSize, ...(patchSize !== null && { patchSize }), stopGradConv1, dim, mlpDim, temperature, optimizer, precision, device,
      ...(threads !== null && { threads }), deterministic,
    },
    batches: [...new Set(sizes)],
    repeats: onGpu ? 5 : 2,
  };
}
