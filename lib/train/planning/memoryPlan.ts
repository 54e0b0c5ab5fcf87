import type { Precision } from "../options.js";
import type { OptimizerName } from "../pretrainOptions.js";
import type { NetworkCost } from "./networkCost.js";

/** What memory depends on besides the network. */
export interface MemorySetting {
  /** Images of a step in this process. */
  batch: number;
  /** Processes that train together; keys come from all of them. Default 1. */
  ranks?: number;
  /** Images encoded at a time (`--micro-batch`), or null for the whole batch at once. */
  chunk: number | null;
  imageSize: readonly [number, number];
  precision: Precision;
  optimizer: OptimizerName;
  /** Whether the network is on a GPU; its views are prepared in the machine's own memory. */
  onGpu: boolean;
  /** Where views get their colours; on a GPU they wait as bytes. */
  augment: "cpu" | "gpu";
  /** Whether checkpoints are written from a copy. */
  saveInBackground: boolean;
  /** Of the process before there is a network: Node.js and libtorch, on a GPU its context too. Default: measured on Linux. */
  baseBytes?: number;
}

export interface MemoryPart {
  /** What it belongs to: only what tensors of the training come and go in has gaps. */
  kind: "process" | "state" | "activations" | "views" | "checkpoint";
  name: string;
  bytes: number;
}

/** Memory of one device at the fullest moment of a step. */
export interface DeviceMemoryPlan {
  /** They add up to `bytes`. */
  parts: MemoryPart[];
  bytes: number;
}

export interface MemoryPlan {
  /** Where the network is. */
  training: DeviceMemoryPlan;
  /** Of the process, where the network is on a GPU; else null. */
  host: DeviceMemoryPlan | null;
  /** Growth of the activations for one image more in a chunk. */
  bytesPerChunkImage: number;
}

/** Node.js with libtorch's CPU library, resident, on Linux. */
const PROCESS_BASE = 177e6;
/** The same with CUDA's libraries and a context. */
const CUDA_PROCESS_BASE = 1.2e9;
/** What a CUDA context takes of a GPU beside tensors, and libtorch's blocks that are not quite full. */
const CUDA_CONTEXT = 0.6e9;
/** Views ahead of the step, by the loader's rule: two batches, or one where a batch takes more than 2 GiB. */
const LARGE_BATCH = 2 ** 31;
const FLOAT = 4;
/** Copies of an N x M matrix of logits at most: product, division, log-softmax and, in backward, two gradients in their place. */
const LOGIT_COPIES = 4;

/** Bytes of a training step, part by part, at its fullest moment. */
export function planMemory(network: NetworkCost, setting: MemorySetting): MemoryPlan {
  const { precision, onGpu, optimizer } = setting;
  const half = precision === "fp32" ? FLOAT : 2;
  const bytesOf = ({ full, half: narrow }: { full: number; half: number }): number => FLOAT * full + half * narrow;
  const { encoder, heads } = network;
  const views = 2;
  const { batch, chunk } = setting;
  const encoded = Math.min(chunk ?? batch, batch);

  const state = stateBytes(network, optimizer);
  const keptByEncoder = views * (bytesOf({ full: encoder.cost.keptFull, half: encoder.cost.keptHalf }) + encoder.cost.keptBytes);
  const pass = (encoder.viewsTogether ? views : 1) * bytesOf(encoder.pass);
  const keptByHeads = views * bytesOf({ full: heads.keptFull, half: heads.keptHalf });
  const loss = LOGIT_COPIES * FLOAT * batch * batch * (setting.ranks ?? 1) + 2 * views * FLOAT * network.dim * batch * (setting.ranks ?? 1);
  const imageValues = 3 * setting.imageSize[0] * setting.imageSize[1];
  const chunked = chunk !== null && chunk < batch;
  const always: MemoryPart[] = [
    { kind: "state", name: "parameters", bytes: state.parameters },
    { kind: "state", name: "momentum copy", bytes: state.momentum },
    { kind: "state", name: "statistics of batch normalisation, twice", bytes: state.buffers },
    { kind: "state", name: `state of ${optimizer === "lars" ? "LARS" : "AdamW"}`, bytes: state.optimizer },
    ...(precision === "fp32" ? [] : [{ kind: "state" as const, name: `weights in ${precision}`, bytes: 2 * network.trainedParameters }]),
  ];
  const graph: MemoryPart = { kind: "activations", name: "activations of the encoder, kept for backward", bytes: encoded * keptByEncoder };
  const headGraph: MemoryPart = { kind: "activations", name: "activations of projector and predictor", bytes: batch * keptByHeads };
  const lossMatrices: MemoryPart = { kind: "activations", name: "logits and gathered keys", bytes: loss };
  const gradients: MemoryPart = { kind: "state", name: "gradients", bytes: state.gradients };
  const withoutGraph: MemoryPart = { kind: "activations", name: "the momentum encoder's pass", bytes: encoded * pass };
  // The moments at which a step may be fullest. Gradients come as activations go; LARS makes decayed ones beside them.
  const moments: MemoryPart[][] = [];
  if (chunked) {
    // `GradientCache` keeps features and their gradients, and the momentum encoder as it was before the step.
    always.push({ kind: "state", name: "momentum copy before the step", bytes: state.momentum });
    always.push({ kind: "activations", name: "features of all images", bytes: 3 * views * FLOAT * batch * network.featureDim });
    const pixels: MemoryPart = { kind: "activations", name: "views of a chunk", bytes: views * FLOAT * encoded * imageValues };
    moments.push([pixels, withoutGraph], [headGraph, lossMatrices], [pixels, graph, gradients]);
  } else {
    moments.push([graph, headGraph, withoutGraph], [graph, headGraph, lossMatrices]);
  }
  moments.push([gradients, ...(optimizer === "lars" ? [{ ...gradients, name: "decayed gradients of LARS" }] : [])]);
  const fullest = moments.reduce((most, each) => (sumOf(each) > sumOf(most) ? each : most));
  const training = [...always, ...fullest];

  const asBytes = chunked ? setting.augment === "cpu" : onGpu && setting.augment === "gpu";
  const batchBytes = batch * views * imageValues * (asBytes ? 1 : FLOAT);
  const ahead = chunked || batchBytes > LARGE_BATCH ? 1 : 2;
  const loading: MemoryPart = { kind: "views", name: `views: the step's and ${ahead} batch${ahead === 1 ? "" : "es"} ahead`, bytes: (1 + ahead) * batchBytes };
  const copy: MemoryPart[] = setting.saveInBackground
    ? [{ kind: "checkpoint", name: "copy that a checkpoint is written from", bytes: state.checkpoint }] : [];
  if (!onGpu) {
    const base: MemoryPart = { kind: "process", name: "Node.js and libtorch", bytes: setting.baseBytes ?? PROCESS_BASE };
    return { training: summed([base, ...training, loading, ...copy]), host: null, bytesPerChunkImage: keptByEncoder + pass };
  }
  // On the GPU the step's views and one batch ahead.
  const deviceViews: MemoryPart = { kind: "views", name: "views: the step's and 1 batch ahead", bytes: 2 * batch * views * imageValues * (chunked && asBytes ? 1 : FLOAT) };
  return {
    training: summed([{ kind: "process", name: "CUDA's context", bytes: CUDA_CONTEXT }, ...training, deviceViews]),
    host: summed([{ kind: "process", name: "Node.js and libtorch with CUDA", bytes: setting.baseBytes ?? CUDA_PROCESS_BASE }, loading, ...copy]),
    bytesPerChunkImage: keptByEncoder + pass,
  };
}

/** What a training keeps from step to step, and its gradients, in bytes. All of it is float32. */
export function stateBytes(network: NetworkCost, optimizer: OptimizerName) {
  const parameters = FLOAT * network.baseParameters;
  const momentum = FLOAT * network.momentumParameters;
  const gradients = FLOAT * network.trainedParameters;
  const moments = gradients * (optimizer === "adamw" ? 2 : 1);
  return {
    parameters, momentum, gradients, optimizer: moments,
    // The running statistics, and the copy that a refused step is undone from.
    buffers: 2 * FLOAT * network.bufferValues,
    /** Size of a checkpoint, but for some kilobytes of names. */
    checkpoint: parameters + momentum + FLOAT * network.bufferValues + moments,
  };
}

function summed(parts: MemoryPart[]): DeviceMemoryPlan {
  return { parts, bytes: sumOf(parts) };
}

function sumOf(parts: readonly MemoryPart[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0);
}
