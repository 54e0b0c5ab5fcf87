// The tests run as compiled, with no transform. Read in Jest's own process before it starts its workers, which inherit the
// environment: OpenMP reads its thread count when libtorch is loaded, and two workers with two threads each would only
// stand in each other's way.
process.env.OMP_NUM_THREADS ??= "1";
process.env.MKL_NUM_THREADS ??= "1";
// As `deterministic` trainings set it: what a test writes into its `process.env` does not reach cuBLAS.
process.env.CUBLAS_WORKSPACE_CONFIG ??= ":4096:8";

export default {
  testEnvironment: "node",
  roots: ["<rootDir>/dist/test"],
  testMatch: ["**/*.test.js"],
  transform: {},
  maxWorkers: 2,
  testTimeout: 60_000,
  // No handle is left when a worker ends, but taking down some hundred MB of test files' globals and libtorch's thousands of operators takes the
  // half second that Jest waits by default, and longer on a busy machine: Jest then kills it and warns of a leak.
  workerGracefulExitTimeout: 10_000,
};
