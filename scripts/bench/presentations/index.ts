import type { BenchmarkResult } from "../result.js";
import { presentCheckpoint } from "./checkpoint.js";
import { presentData } from "./data.js";
import { presentDistributed } from "./distributed.js";
import { presentEndToEnd } from "./endToEnd.js";
import { presentFunctions } from "./functions.js";
import { presentMicroBatch } from "./microBatch.js";
import { presentOperators } from "./ops.js";
import { presentPlan } from "./plan.js";
import type { Presentation } from "./presentation.js";
import { presentPretrainGpu } from "./pretrainGpu.js";
import { presentScale } from "./scale.js";
import { presentServe } from "./serve.js";
import { presentStep } from "./step.js";
import { presentStepGpu } from "./stepGpu.js";
import { presentWatch } from "./watch.js";

/** By a result's name. */
const presentations: Readonly<Record<string, (result: BenchmarkResult) => Presentation>> = {
  checkpoint: presentCheckpoint, data: presentData, distributed: presentDistributed, end2end: presentEndToEnd, "end2end-gpu": presentEndToEnd,
  functions: presentFunctions, "micro-batch": presentMicroBatch, ops: presentOperators, plan: presentPlan, "pretrain-gpu": presentPretrainGpu, scale: presentScale,
  serve: presentServe, step: presentStep, "step-gpu": presentStepGpu, watch: presentWatch,
};

/** The results that a table and a chart are made of; other files in benchmarks/results are no benchmarks. */
export const presented: readonly string[] = Object.keys(presentations);

/** What the table and the chart of a result show. */
export function present(result: BenchmarkResult): Presentation {
  const make = presentations[result.name];
  if (make === undefined) throw new RangeError(`there is no table of a benchmark "${result.name}"; there are those of ${presented.join(", ")}`);
  return make(result);
}

/** Where and when it was measured, in a line. */
export function placeOf({ machine, versions, date }: BenchmarkResult): string {
  const { cpu, cores, memoryGiB, gpu, gpuMemoryGiB } = machine;
  const card = gpu === undefined ? [] : [gpuMemoryGiB === undefined ? gpu : `${gpu}, ${gpuMemoryGiB} GiB`];
  const software = [`libtorch ${versions["libtorch"]}`, `Node.js ${versions["node"]}`, ...(versions["python"] === undefined ? [] : [`Python ${versions["python"]}`])];
  return [...card, `${cpu}, ${cores} cores, ${memoryGiB} GiB`, ...software, date].join("; ");
}
