import * as torch from "../../torch/index.js";
import type { RecordedGraph, Tensor } from "../../torch/index.js";
import { OptionError } from "../options.js";
import { ratesOnDevice } from "./ratesOnDevice.js";

/** When steps are recorded as CUDA graphs. */
export const graphChoices = ["auto", "on", "off"] as const;
export type CudaGraph = (typeof graphChoices)[number];

/** What records a step. */
export interface StepRecorder {
  /** Runs a step that is not recorded, so that what recording needs is there. */
  prepare<T>(fn: () => T): T;
  /** @throws where the work cannot be recorded */
  record(fn: () => readonly Tensor[]): RecordedGraph;
}

/** What of a training decides whether its steps can be recorded. */
export interface Recordable {
  cudaGraph: CudaGraph;
  device: string;
  precision: string;
  worldSize: number;
  microBatch: number | null;
}

/** Why a training's steps cannot be recorded, and what would change that; null where they can. */
function obstacle({ device, precision, worldSize, microBatch }: Recordable): string | null {
  if (!device.startsWith("cuda")) return `the device is ${device}, and only a GPU has graphs; leave it out`;
  if (!ratesOnDevice({ device, precision })) return `precision ${precision} has its learning rate outside the GPU, where a graph cannot read it; leave it out`;
  if (worldSize > 1) return `${worldSize} processes train together and wait for each other in a step; leave it out, or train in one process`;
  if (microBatch !== null) return `microBatch makes a step of several chunks, with a look at the run's signals between them; leave out one of them`;
  return null;
}

/** @throws OptionError where graphs are asked for (`"on"`) and the steps cannot be recorded */
export function requireRecordable(recordable: Recordable): void {
  const why = recordable.cudaGraph === "on" ? obstacle(recordable) : null;
  if (why !== null) throw new OptionError(`cudaGraph is "on", but ${why} (--cuda-graph)`);
}

/** What records a training's steps, or null where they are launched kernel by kernel. */
export function stepRecorder(recordable: Recordable): StepRecorder | null {
  if (recordable.cudaGraph === "off" || obstacle(recordable) !== null) return null;
  const { device } = recordable;
  return {
    prepare: (fn) => {
      const [stream, consumer] = [torch.recordingStream(device), torch.currentStream(device)];
      stream.waitFor(consumer);
      const result = torch.withStream(stream, fn);
      consumer.waitFor(stream);
      return result;
    },
    record: (fn) => torch.recordGraph(device, fn),
  };
}
