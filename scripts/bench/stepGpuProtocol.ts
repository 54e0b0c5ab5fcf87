import type { Precision } from "../../lib/train/options.js";
import type { BackendFlags } from "../../lib/torch/index.js";

/** What is measured in a row, one training each. */
export type Side =
  | "ours" | "oursGraph" | "oursNchw" | "oursOtherPrecision" | "oursDeterministic" | "upstream" | "tuned" | "tunedNchw" | "compiled";

/** One training that is measured. The names are also those of the Python side's arguments. */
export interface GpuSetup {
  /** Of the registry's, or `tiny_vit` or `tiny_resnet`, to try the benchmark on the CPU. */
  arch: string;
  batch: number;
  imageSize: number;
  /** Hidden width of the heads. */
  mlp: number;
  optimizer: "adamw" | "lars";
  stop_grad: boolean;
  warmup: number;
  /** Upstream's is float16 in any case. */
  precision: Precision;
  /** Ours only. */
  deterministic: boolean;
  /** Ours only: a step as CUDA graphs, as `pretrain` has it with `cudaGraph`. */
  graph: boolean;
  /** Ours only. */
  flags: BackendFlags;
  /** PyTorch's only: the mode of `torch.compile`, or null to run eagerly. */
  compile: string | null;
  /** A ResNet's images and weights channel by channel, PyTorch's default, not pixel by pixel. */
  nchw: boolean;
}

/** What a peer is asked. */
export type GpuRequest =
  | { do: "check"; side: Side } | { do: "machine" }
  | ({ do: "setup" } & GpuSetup) | { do: "measure"; steps: number } | { do: "profile"; steps: number } | { do: "drop" };

/** What it answers to `check`: why the side cannot be measured here, if so. */
export interface Readiness {
  trouble?: string;
}

/** And to `setup`. */
export interface Ready {
  seconds: number;
  loss: number;
  outOfMemory?: boolean;
}

/** And to `measure`. */
export interface Measured extends Ready {
  peakBytes: number;
  reservedBytes: number;
}

export interface Machine {
  gpu: string;
  gpuMemoryGiB: number;
  matrixProductTflops: number;
}

/** Answers a side's request. @throws where the side failed; the next request then meets a new process */
export type Ask = <T>(side: Side, request: GpuRequest, secondsAtMost?: number) => Promise<T>;
