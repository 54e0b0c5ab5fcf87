// What the benchmarks `step` and `end2end` say to the training programs of both sides.

/** One training. Both sides get it when they start; the names are those of the JSON that goes to Python, too. */
export interface TrainingSettings {
  arch: string;
  batch: number;
  imageSize: number;
  optimizer: "adamw" | "lars";
  stopGradConv1: boolean;
  temperature: number;
  mlpDim: number;
  /** `cpu` or `cuda`. */
  device: string;
  /** Ours only: Upstream's is float16 on a GPU. */
  precision: "fp32" | "fp16" | "bf16";
  /** Threads of one operator. */
  threads: number;
  /** Ours: threads that load images. Upstream's: processes. */
  workers: number;
  /** A folder of JPEGs, in a folder as for a class. Without it only synthetic views can be asked for. */
  folder: string | null;
}

/** What a process is asked: to train on so many batches, of photographs or of the same random numbers. */
export interface StepsRequest {
  views: "photographs" | "synthetic";
  steps: number;
}

export interface StepsAnswer {
  /** Of one step, the mean of those asked for, with what it waited for its images. */
  seconds: number;
  loss: number;
  /** Peak of memory so far: on a GPU what tensors took there, else the process and those that load for it. */
  peakBytes: number;
}

/** How a network is trained here: as upstream's published commands do, at a small constant learning rate. */
export function recipeOf(arch: string): Pick<TrainingSettings, "arch" | "optimizer" | "stopGradConv1" | "temperature"> {
  const isVit = arch.startsWith("vit");
  return { arch, optimizer: isVit ? "adamw" : "lars", stopGradConv1: isVit && !arch.includes("conv"), temperature: isVit ? 0.2 : 1 };
}

/** Multiplications and additions of one image's step, in 10⁹: both views, forward and backward in one encoder, forward in the other; without heads. */
export const gflopPerImage: Readonly<Record<string, number>> = { vit_small: 73.4, vit_base: 280.4, vit_conv_small: 73.5, resnet50: 65.4 };
