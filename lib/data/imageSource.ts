import { TooFewImagesError } from "./errors.js";
import type { ImageInput } from "./imageInput.js";

/**
 * A set of images that can be read in any order. `ImageFolder` is one; your own is a class of ten lines.
 *
 * @example
 * class Thumbnails implements ImageSource {
 *   constructor(private readonly urls: string[]) {}
 *   get length() { return this.urls.length; }
 *   name(index: number) { return this.urls[index]!; }
 *   async image(index: number) { return new Uint8Array(await (await fetch(this.urls[index]!)).arrayBuffer()); }
 * }
 */
export interface ImageSource {
  readonly length: number;
  /** One image: a path, a part of a file, a file's bytes or pixels. An error or a rejection counts as a bad image. */
  image(index: number): ImageInput | Promise<ImageInput>;
  /** How messages call the image. Default: `image 17`. */
  name?(index: number): string;
  /** Index into `classes`, or null. Default: null. */
  label?(index: number): number | null;
  /** Names of the classes that labels count. Default: none. */
  readonly classes?: readonly string[];
}

/** Which part of a stream's images are wanted. */
export interface StreamRequest {
  seed: number;
  epoch: number;
  /** This process among `worldSize`, from 0. */
  rank: number;
  worldSize: number;
}

/** One image of a stream. */
export interface StreamedImage {
  /** A whole number below 2^32 that is this image's in every epoch and run: it keys the random numbers and the list of bad images. */
  id: number;
  name: string;
  label: number | null;
  image: ImageInput | Promise<ImageInput>;
}

/**
 * A set of images that comes in its own order, such as the members of tar shards.
 *
 * The same request must give the same images in the same order, whatever was asked before; that makes a run reproducible.
 */
export interface ImageStream {
  /** Images in all, over all ranks: steps and the limit on bad images are counted by it. */
  readonly length: number;
  readonly classes?: readonly string[];
  /** This rank's images of an epoch. A consumer that needs more begins again; one that needs fewer stops. */
  stream(request: StreamRequest): AsyncIterable<StreamedImage>;
}

/** Whether images come one after the other only, with no picking by number. */
export function isStream(source: ImageSource | ImageStream): source is ImageStream {
  return "stream" in source;
}

/** How messages call an image of a source. */
export function nameOf(source: ImageSource, index: number): string {
  return source.name?.(index) ?? `image ${index}`;
}

/** Index into the source's classes, or null. */
export function labelOf(source: ImageSource, index: number): number | null {
  return source.label?.(index) ?? null;
}

/**
 * Says before anything is built that a data set is too small to train on.
 *
 * @param batchSize images in one batch over all ranks
 * @throws {TooFewImagesError} when the source does not fill one batch.
 */
export function requireImages(source: ImageSource | ImageStream, batchSize: number): void {
  if (source.length >= batchSize) return;
  const images = source.length === 1 ? "1 image" : `${source.length} images`;
  const remedy = source.length < 2 ? "add images" : `add images or choose a --batch-size of at most ${source.length}`;
  throw new TooFewImagesError(`the data set has ${images}, fewer than one batch of ${batchSize}; ${remedy}`);
}
