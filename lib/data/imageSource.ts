import type { DecodedImage } from "./decodedImage.js";
import { sharedDecoder } from "./decoder.js";
import { BadImageError, TooFewImagesError } from "./errors.js";

/**
 * A set of images. `ImageFolder` is one; your own is a class of ten lines.
 *
 * @example
 * class Thumbnails implements ImageSource {
 *   readonly classes = [];
 *   constructor(private readonly urls: string[]) {}
 *   get length() { return this.urls.length; }
 *   name(index: number) { return this.urls[index]; }
 *   label() { return null; }
 *   async read(index: number) { return new Uint8Array(await (await fetch(this.urls[index])).arrayBuffer()); }
 * }
 */
export interface ImageSource {
  readonly length: number;
  /** Names of the classes that labels count, or an empty list. */
  readonly classes: readonly string[];
  /** How messages call the image. */
  name(index: number): string;
  /** Index into `classes`, or null. */
  label(index: number): number | null;
  /** The file's bytes in any supported format, or its pixels. A rejection counts as a bad image. */
  read(index: number): Promise<Uint8Array | DecodedImage>;
  /** Where the file is, if it is one: then it is read off the JavaScript thread, and `read` is not called. */
  path?(index: number): string;
}

/**
 * Reads and decodes one image of a source.
 *
 * @throws {BadImageError} that names the image and says why it cannot be used.
 */
export async function readImage(source: ImageSource, index: number): Promise<DecodedImage> {
  let image: DecodedImage;
  try {
    const read = source.path ? source.path(index) : await source.read(index);
    image = typeof read === "string" || ArrayBuffer.isView(read) ? await sharedDecoder().decode(read) : read;
  } catch (error) {
    throw new BadImageError(`${source.name(index)}: ${(error as Error).message}`, { cause: error });
  }
  const { data, width, height } = image;
  if (!ArrayBuffer.isView(data) || !(width >= 1) || !(height >= 1) || data.length !== 3 * width * height) {
    throw new BadImageError(
      `${source.name(index)}: the source gave ${data?.length} bytes for ${width} x ${height} pixels; RGB needs ${3 * width * height}`,
    );
  }
  return image;
}

/**
 * Says before anything is built that a data set is too small to train on.
 *
 * @param batchSize images in one batch over all ranks
 * @throws {TooFewImagesError} when the source does not fill one batch.
 */
export function requireImages(source: ImageSource, batchSize: number): void {
  if (source.length >= batchSize) return;
  throw new TooFewImagesError(
    `the data set has ${source.length} images, fewer than one batch of ${batchSize}; ` +
      "add images or choose a smaller --batch-size",
  );
}
