/** A benchmark data set that cannot be used: files missing, of the wrong size or damaged. */
export class DatasetError extends Error {
  override readonly name = "DatasetError";
}
