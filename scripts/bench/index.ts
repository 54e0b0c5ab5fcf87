import type { BenchmarkOptions, BenchmarkResult } from "./result.js";

type Benchmark = (options: BenchmarkOptions) => Promise<BenchmarkResult>;

/** Benchmarks by name, as `moco bench NAME` takes them. Each is loaded when it is run: `serve` needs development packages. */
export const benchmarks: Readonly<Record<string, Benchmark>> = {
  checkpoint: async (options) => (await import("./checkpoint.js")).benchmarkCheckpoint(options),
  data: async (options) => (await import("./data.js")).benchmarkData(options),
  distributed: async (options) => (await import("./distributed.js")).benchmarkDistributed(options),
  end2end: async (options) => (await import("./end2end.js")).benchmarkEndToEnd(options),
  functions: async (options) => (await import("./functions.js")).benchmarkFunctions(options),
  "micro-batch": async (options) => (await import("./microBatch.js")).benchmarkMicroBatch(options),
  ops: async (options) => (await import("./ops.js")).benchmarkOperators(options),
  plan: async (options) => (await import("./plan.js")).benchmarkPlan(options),
  scale: async (options) => (await import("./scale.js")).benchmarkScale(options),
  serve: async (options) => (await import("./serve.js")).benchmarkServe(options),
  step: async (options) => (await import("./step.js")).benchmarkStep(options),
  "step-gpu": async (options) => (await import("./stepGpu.js")).benchmarkStepGpu(options),
  watch: async (options) => (await import("./watch.js")).benchmarkWatch(options),
};
export { recordResult } from "./records.js";
