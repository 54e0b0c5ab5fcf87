import { availableParallelism } from "node:os";
import { native } from "../native.js";
import type { Tensor } from "../torch/index.js";
import type { Box, ViewParameters } from "./augmentation.js";
import type { DecodedImage } from "./decodedImage.js";
import { DataOptionError } from "./errors.js";

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
  crop: Box;
  resizing: Resizing;
}

/** An image and what to make of it. */
export interface RenderRequest {
  image: DecodedImage;
  renderings: readonly Rendering[];
}

/** Numbers per rendering, in the order in which native/imageBinding.cc reads them. */
const fieldsPerRendering = 23;

/**
 * Native threads that crop, augment and normalise images into batch tensors without touching the JavaScript thread.
 *
 * @example
 * const pool = new ImagePool(2);
 * await pool.render([{ image, renderings: [{ output: 0, row: 0, crop, resizing, flip: true }] }], [batch]);
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
   * Writes the renderings into the outputs, in parallel; resolves when all are written.
   *
   * @param outputs contiguous CPU tensors [N, 3, H, W]: float32 is normalised, uint8 is the picture itself. They may be disposed of
   *   while the work runs; the images' pixels must not change.
   */
  async render(requests: readonly RenderRequest[], outputs: readonly Tensor[], normalization = imageNetNormalization): Promise<void> {
    const sizes = new Float64Array(2 * requests.length);
    const count = requests.reduce((sum, request) => sum + request.renderings.length, 0);
    const fields = new Float64Array(count * fieldsPerRendering);
    let at = 0;
    requests.forEach(({ image, renderings }, source) => {
      sizes[2 * source] = image.width;
      sizes[2 * source + 1] = image.height;
      for (const rendering of renderings) {
        writeFields(fields.subarray(at, at + fieldsPerRendering), source, rendering);
        at += fieldsPerRendering;
      }
    });
    await native.renderViews(
      this.#pool, requests.map((request) => request.image.data), sizes, fields, outputs.map((output) => output.liveSlot("render")),
      Float64Array.from([...normalization.mean, ...normalization.std]),
    );
  }

  /** Ends the threads; what they have not begun is rejected. Safe to call twice. */
  close(): void {
    native.closeImagePool(this.#pool);
  }
}

function writeFields(to: Float64Array, source: number, rendering: Rendering): void {
  const { crop, resizing, jitter } = rendering;
  const order = jitter?.order ?? [];
  to.set([
    source, rendering.output, rendering.row,
    crop.top, crop.left, crop.height, crop.width,
    resizing.height, resizing.width, resizing.top, resizing.left,
    order[0] ?? -1, order[1] ?? -1, order[2] ?? -1, order[3] ?? -1,
    jitter?.brightness ?? 1, jitter?.contrast ?? 1, jitter?.saturation ?? 1,
    Math.trunc((jitter?.hue ?? 0) * 255), // torchvision truncates towards zero on PIL's 8-bit hue
    rendering.grayscale ? 1 : 0,
    rendering.blurSigma ?? 0,
    rendering.solarize ?? 256,
    rendering.flip ? 1 : 0,
  ]);
}

let shared: ImagePool | undefined;

/** The pool that evaluation and embedding share; it has as many threads as the machine, and none until it is first used. */
export function sharedImagePool(): ImagePool {
  return (shared ??= new ImagePool());
}
