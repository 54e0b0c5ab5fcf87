import { benchmarkCheckpoint } from "./checkpoint.js";
import { benchmarkData } from "./data.js";
import { benchmarkOperators } from "./ops.js";
import type { BenchmarkOptions, BenchmarkResult } from "./result.js";
import { benchmarkServe } from "./serve.js";
import { benchmarkStep } from "./step.js";
import { benchmarkStepGpu } from "./stepGpu.js";

/** Benchmarks by name, as `moco bench NAME` takes them. */
export const benchmarks: Readonly<Record<string, (options: BenchmarkOptions) => Promise<BenchmarkResult>>> = {
  checkpoint: benchmarkCheckpoint,
  data: benchmarkData,
  ops: benchmarkOperators,
  serve: benchmarkServe,
  step: benchmarkStep,
  "step-gpu": benchmarkStepGpu,
};
export { saveResult } from "./result.js";
