// What the data benchmark and its two measured programs say to each other.
import type { ViewRecipe } from "../../lib/data/index.js";

/** What both sides are told when they start. */
export interface DataSettings {
  folder: string;
  recipes: readonly ViewRecipe[];
  imageSize: number;
  batch: number;
  /** Ours: threads. Python's: worker processes; 0 loads in the process itself. */
  workers: number;
  upstream: string | null;
}

/** Seconds. */
export interface Stages {
  decode: number;
  crop: number;
  colour: number;
  blur: number;
  /** Flip, conversion to float, normalisation, and the way into the batch. */
  normalise: number;
}

export interface FilesAnswer {
  meanBytes: number;
  versions: Record<string, string>;
}

export interface LoadAnswer {
  images: number;
  seconds: number;
  /** Of all threads and worker processes. */
  cpuSeconds: number;
  /** Zeros for Python with workers, who keep their clocks to themselves. */
  stages: Stages;
  /** Resident bytes of all processes when so many images were loaded. */
  memory: [images: number, bytes: number][];
}

export interface Training {
  encoder: string;
  imageSize: number;
  batchSize: number;
  mlpDim: number;
  steps: number;
  threads: number;
}

export interface TrainAnswer {
  stepMs: number[];
  waitMs: number[];
}

/** What a process is asked to measure. Python's side knows `make` and `load` only. */
export type DataRequest =
  | { do: "make"; photos: readonly string[]; files: number }
  | { do: "load"; images: number; epoch: number; watchMemory: boolean }
  | { do: "crops"; images: number; epoch: number }
  | ({ do: "train" } & Training);

