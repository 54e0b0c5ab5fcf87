/** An image that was left out, and why. */
export interface BadImage {
  /** Position in the source. */
  index: number;
  /** The source's name of it; a path relative to the folder for an `ImageFolder`. */
  name: string;
  reason: string;
}

/** A folder of images that cannot be used: missing, unreadable or without images. */
export class ImageFolderError extends Error {
  override readonly name = "ImageFolderError";
}

/** A list of images that cannot be used: missing, ambiguous, empty, or with paths that lead nowhere. */
export class FileListError extends Error {
  override readonly name = "FileListError";
}

/** Something given as images that is none of the known kinds of data sets. */
export class UnknownDataError extends Error {
  override readonly name = "UnknownDataError";
}

/** Images that should have labels and have none, or others than they should. */
export class LabelledDataError extends Error {
  override readonly name = "LabelledDataError";
}

/** A data set with fewer images than one batch. */
export class TooFewImagesError extends Error {
  override readonly name = "TooFewImagesError";
}

/** One image that could not be read or decoded. */
export class BadImageError extends Error {
  override readonly name = "BadImageError";
}

/** More images could not be read than the limit allows. */
export class TooManyBadImagesError extends Error {
  override readonly name = "TooManyBadImagesError";
  readonly bad: readonly BadImage[];

  constructor(bad: readonly BadImage[], total: number, maxBad: number) {
    const shown = bad.slice(0, 20).map((image) => `  ${image.name}: ${image.reason}`);
    if (bad.length > shown.length) shown.push(`  and ${bad.length - shown.length} more`);
    // At least twice as many as were found up to here: more may follow.
    const share = [0.05, 0.1, 0.2, 0.5].find((each) => each > maxBad && each * total >= 2 * bad.length) ?? 1;
    super(
      `${bad.length} of ${total} images could not be read, more than the limit of ${maxBad * 100} %:\n${shown.join("\n")}\n` +
        `Mend or remove these files, or have up to ${Number((share * 100).toFixed(0))} % left out with --max-bad ${share}.`,
    );
    this.bad = bad;
  }
}

/** An option of the data pipeline with a value outside its range. */
export class DataOptionError extends Error {
  override readonly name = "DataOptionError";
}
