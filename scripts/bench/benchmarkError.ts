/** A measured program failed, or something that a benchmark needs is not there. */
export class BenchmarkError extends Error {
  override readonly name = "BenchmarkError";
}
