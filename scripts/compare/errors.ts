/** A side of the comparison failed, or cannot be started. */
export class ComparisonError extends Error {
  override readonly name = "ComparisonError";
}
