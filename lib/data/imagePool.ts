import { availableParallelism } from "node:os";
import { native } from "../native.js";
import type { Tensor } from "../torch/index.js";
import type { Box, CropDraw, ViewParameters } from "./augmentation/augmentation.js";
import { requireInterpolation } from "./augmentation/interpolation.js";
import { numbersPerOperation, writeOperation } from "./augmentation/operations.js";
import { numbersPerErasing, writeErasing } from "./augmentation/randomErasing.js";
import type { DecodedImage } from "./decoding/decodedImage.js";
import { sharedDecoder } from "./decoding/decoder.js";
import { DataOptionError } from "./errors.js";
import { isDecoded, isFileRange, type ImageInput } from "./imageInput.js";

/** Mean and standard deviation of ImageNet's channels, which all of the method's models expect. */
export const imageNetNormalization: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Per channel, of values from 0 to 1. */
export interface Normalization {
  mean: readonly [number, number, number];
  std: readonly [number, number, number];
}

/** The size to which a crop is resized, and the corner of the part of the result that is kept: as much as the output holds. */
export interface Resizing {
  height: number;
  width: number;
  top: number;
  left: number;
}

/** One picture to make: where it goes and what happens on the way. Parameters that are left out change nothing. */
export interface Rendering extends Partial<Omit<ViewParameters, "crop">> {
  /** Which of the outputs, and which of its rows. */
  output: number;
  row: number;
  /** Default: the whole image. */
  crop?: Box | CropDraw;
  /** Or, with `shorter`, the length of its shorter side, of which the centre is kept. Default: to the output's size. */
  resizing?: Resizing | { shorter: number };
}

/** An image and what to make of it; nothing, to see whether it can be decoded. */
export interface RenderRequest {
  image: ImageInput;
  renderings: readonly Rendering[];
}

/** What became of a request: the image's size in pixels and the box that each rendering shows, or why it cannot be used. */
export type RenderOutcome = { width: number; height: number; crops: Box[] } | { reason: string };

/** How an {@link ImagePool} turns pixels into numbers. */
export interface RenderOptions {
  /** Default: ImageNet's. */
  normalization?: Normalization;
  /** Turn pictures upright as their EXIF orientation says. Default false, as upstream. */
  exif?: boolean;
}

/** Seconds of thread time, and what they were spent on. */
export interface StageSeconds {
  read: number;
  decode: number;
  crop: number;
  colour: number;
  blur: number;
  write: number;
  images: number;
  views: number;
}

/** Numbers per input, rendering and crop, in the order in which native/imageRequest.cc reads them. */
const numbersPerInput = 3;
const numbersPerRendering = 25 + numbersPerErasing;
const numbersPerDraw = 42;

/** Outcomes, as native/image/prepare.h numbers them. */
const done = 0, bad = 1;

/**
 * Native threads that read, decode, crop, augment and normalise images into batch tensors without touching the JavaScript thread.
 *
 * @example
 * const pool = new ImagePool(2);
 * await pool.render([{ image: "cat.jpg", renderings: [{ output: 0, row: 0, flip: true }] }], [batch]);
 */
export class ImagePool {
  readonly threads: number;
  readonly #pool: unknown;

  /** @throws {DataOptionError} unless `threads` is a whole number from 1 to 1024. */
  constructor(threads: number = availableParallelism()) {
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
      throw new DataOptionError(`${threads} image threads; give a whole number from 1 to 1024`);
    }
    this.threads = threads;
    this.#pool = native.imagePool(threads);
  }

  /**
   * Writes the renderings into the outputs, in parallel; resolves when all are written. Only what a crop needs of a JPEG is decoded.
   * Formats other than JPEG go through sharp first.
   *
   * @param outputs contiguous CPU tensors [N, 3, H, W]: float32 is normalised, uint8 is the picture itself. They may be disposed of
   *   while the work runs; bytes and pixels of images must not change.
   * @returns one outcome for each request; the rows of an image with a reason are left as they were
   * @throws an `Error` when the pool is closed or `cancel` is called before the work is done.
   */
  async render(requests: readonly RenderRequest[], outputs: readonly Tensor[], options: RenderOptions = {}): Promise<RenderOutcome[]> {
    const outcomes = await this.#renderNatively(requests, outputs, options);
    const foreign = outcomes.flatMap((outcome, i) => (outcome === "foreign" ? [i] : []));
    await Promise.all(foreign.map(async (i) => {
      const { image, renderings } = requests[i]!;
      try {
        const pixels = await sharedDecoder().decode(image as Exclude<ImageInput, DecodedImage>, options.exif);
        [outcomes[i]] = (await this.#renderNatively([{ image: pixels, renderings }], outputs, options)) as [RenderOutcome];
      } catch (error) {
        outcomes[i] = { reason: (error as Error).message };
      }
    }));
    return outcomes as RenderOutcome[];
  }

  async #renderNatively(
    requests: readonly RenderRequest[], outputs: readonly Tensor[], options: RenderOptions,
  ): Promise<(RenderOutcome | "foreign")[]> {
    const count = requests.reduce((sum, request) => sum + request.renderings.length, 0);
    const inputs = new Float64Array(requests.length * numbersPerInput);
    const numbers = new Float64Array(count * numbersPerRendering);
    const draws: CropDraw[] = [];
    const operations: number[] = [];
    const images = requests.map(({ image }, i) => writeInput(inputs, i * numbersPerInput, image));
    const kinds = outputs.map(({ shape, dtype }) => ({ height: shape[2]!, width: shape[3]!, dtype }));
    let at = 0;
    requests.forEach(({ renderings }, image) => {
      for (const rendering of renderings) {
        const output = kinds[rendering.output];
        if (!output) throw new DataOptionError(`output ${rendering.output} of ${outputs.length}; they are counted from 0`);
        writeRendering(numbers, at, image, rendering, output, draws, operations);
        at += numbersPerRendering;
      }
    });
    const drawn = new Float64Array(draws.length * numbersPerDraw);
    draws.forEach((draw, i) => drawn.set(draw, i * numbersPerDraw));
    const { mean, std } = options.normalization ?? imageNetNormalization;
    const filled = new Int32Array(3 * requests.length + 4 * count);
    const reasons = await native.prepareImages(
      this.#pool, images, inputs, numbers, drawn, Float64Array.from(operations), outputs.map((output) => output.liveSlot("render")),
      Float64Array.from([...mean, ...std]), options.exif ?? false, filled,
    );
    let next = 3 * requests.length;
    return requests.map(({ renderings }, i) => {
      const crops = renderings.map(() => {
        const box = next;
        next += 4;
        return { top: filled[box]!, left: filled[box + 1]!, height: filled[box + 2]!, width: filled[box + 3]! };
      });
      const outcome = filled[3 * i]!;
      if (outcome === done) return { width: filled[3 * i + 1]!, height: filled[3 * i + 2]!, crops };
      return outcome === bad ? { reason: reasons[i]! } : "foreign";
    });
  }

  /**
   * Decodes a whole image, with the meaning of PIL's `convert("RGB")`.
   *
   * @throws an `Error` that says why the image cannot be read or decoded.
   */
  async decode(image: ImageInput, options: { exif?: boolean } = {}): Promise<DecodedImage> {
    if (isDecoded(image)) return image;
    const input = new Float64Array(numbersPerInput);
    const where = writeInput(input, 0, image);
    const [outcome, width, height, pixels, reason] = await native.decodeImage(this.#pool, where, input, options.exif ?? false);
    if (outcome === done) return { data: new Uint8Array(pixels), width, height };
    if (outcome === bad) throw new Error(reason!);
    return sharedDecoder().decode(image, options.exif);
  }

  /** Where the threads' time went since the pool was made. */
  stageSeconds(): StageSeconds {
    const [read, decode, crop, colour, blur, write, images, views] = native.imagePoolTimes(this.#pool) as
      [number, number, number, number, number, number, number, number];
    const seconds = 1e-9;
    return {
      read: read * seconds, decode: decode * seconds, crop: crop * seconds, colour: colour * seconds, blur: blur * seconds,
      write: write * seconds, images, views,
    };
  }

  /** Takes back what the threads have not begun; its promises are rejected. */
  cancel(): void {
    native.cancelImageWork(this.#pool);
  }

  /** Ends the threads; what they have not begun is rejected. Safe to call twice. */
  close(): void {
    native.closeImagePool(this.#pool);
  }
}

function writeInput(to: Float64Array, at: number, image: ImageInput): string | Uint8Array {
  if (typeof image === "string") {
    to[at + 1] = -1;
    return image;
  }
  if (isFileRange(image)) {
    to[at + 1] = image.offset;
    to[at + 2] = image.length;
    return image.path;
  }
  if (!isDecoded(image)) {
    to[at] = 1;
    return image;
  }
  to[at] = 2;
  to[at + 1] = image.width;
  to[at + 2] = image.height;
  return image.data;
}

function isDraw(crop: Box | CropDraw | undefined): crop is CropDraw {
  return Array.isArray(crop);
}

function writeRendering(
  to: Float64Array, at: number, image: number, rendering: Rendering, output: { height: number; width: number; dtype: string },
  draws: CropDraw[], operations: number[],
): void {
  const { crop, resizing, jitter, erase } = rendering;
  to[at] = image;
  to[at + 1] = rendering.output;
  to[at + 2] = rendering.row;
  if (isDraw(crop)) {
    to[at + 3] = 2;
    to[at + 4] = draws.push(crop) - 1;
  } else if (crop) {
    to[at + 3] = 1;
    to[at + 4] = crop.top;
    to[at + 5] = crop.left;
    to[at + 6] = crop.height;
    to[at + 7] = crop.width;
  }
  if (resizing && "shorter" in resizing) {
    to[at + 8] = resizing.shorter;
  } else {
    to[at + 9] = resizing?.height ?? output.height;
    to[at + 10] = resizing?.width ?? output.width;
    to[at + 11] = resizing?.top ?? 0;
    to[at + 12] = resizing?.left ?? 0;
  }
  // The order of up to four operations as the digits of one number, 0 for none.
  to[at + 13] = (jitter?.order ?? []).reduceRight((digits, operation) => 5 * digits + operation + 1, 0);
  to[at + 14] = jitter?.brightness ?? 1;
  to[at + 15] = jitter?.contrast ?? 1;
  to[at + 16] = jitter?.saturation ?? 1;
  to[at + 17] = Math.trunc((jitter?.hue ?? 0) * 255); // torchvision truncates towards zero on PIL's 8-bit hue
  to[at + 18] = rendering.grayscale ? 1 : 0;
  to[at + 19] = rendering.blurSigma ?? 0;
  to[at + 20] = rendering.solarize ?? 256;
  to[at + 21] = rendering.flip ? 1 : 0;
  if (rendering.interpolation !== undefined) requireInterpolation(rendering.interpolation);
  to[at + 22] = rendering.interpolation === "bicubic" ? 1 : 0;
  to[at + 23] = operations.length / numbersPerOperation;
  to[at + 24] = rendering.operations?.length ?? 0;
  for (const operation of rendering.operations ?? []) writeOperation(operations, operation, output);
  if (!erase) return;
  if (output.dtype === "uint8") throw new DataOptionError("what is erased is overwritten after normalisation; give a float32 output");
  writeErasing(to, at + 25, erase, output.height, output.width);
}

let shared: ImagePool | undefined;

/** The pool that evaluation and embedding share; it has as many threads as the machine, and none until it is first used. */
export function sharedImagePool(): ImagePool {
  return (shared ??= new ImagePool());
}
