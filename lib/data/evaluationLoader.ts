import { empty, keep, type Tensor } from "../torch/index.js";
import type { DecodedImage } from "./decodedImage.js";
import { BadImageError, DataOptionError, type BadImage } from "./errors.js";
import { imageNetNormalization, sharedImagePool, type ImagePool, type Normalization, type RenderRequest } from "./imagePool.js";
import { readImage, type ImageSource } from "./imageSource.js";
import { mapInOrder, prefetch } from "./prefetch.js";
import { roundHalfEven } from "./rounding.js";

export interface EvaluationOptions {
  /** Height and width of the result in pixels. */
  imageSize: number | readonly [number, number];
  /**
   * Length to which the shorter side is resized before the centre is cut out (256 for 224 in the paper's evaluation). Without it the
   * whole image is resized to `imageSize`, whatever its shape.
   */
  resizeShorter?: number;
  normalization?: Normalization;
  /** Default: a pool that all evaluation shares. */
  pool?: ImagePool;
}

export interface EvaluationBatchOptions extends EvaluationOptions {
  batchSize: number;
  /** Which images, in which order. Default: all. */
  indices?: readonly number[];
  /** Finished batches that wait for the consumer. Default 2. */
  prefetch?: number;
}

export interface EvaluationBatch {
  /** Float32 [n, 3, H, W]; the consumer disposes of it. */
  images: Tensor;
  /** The samples, row by row; unreadable ones are not among them. */
  indices: number[];
  /** Class indices, null where the source has none. */
  labels: (number | null)[];
  /** What could not be read. */
  bad: BadImage[];
}

/**
 * Reads images as they are evaluated: resized, the centre cut out, normalised; nothing random.
 *
 * @returns float32 [indices.length, 3, H, W], to be disposed of by the caller
 * @throws {BadImageError} that names the first image that cannot be read.
 * @example
 * const images = await loadImages(folder, [0, 1, 2], { imageSize: 224, resizeShorter: 256 });
 */
export async function loadImages(source: ImageSource, indices: readonly number[], options: EvaluationOptions): Promise<Tensor> {
  const all = { ...options, indices, batchSize: Math.max(1, indices.length), prefetch: 1 };
  for await (const { images, bad } of evaluationBatches(source, all)) {
    const first = bad[0];
    if (!first) return images;
    images.dispose();
    throw new BadImageError(`${first.name}: ${first.reason}`);
  }
  const [height, width] = sizeOf(options);
  return keep(empty([0, 3, height, width], { dtype: "float32" }));
}

/**
 * A source's images in order, prepared in the background, for embedding and evaluation. The last batch may be short, and so are those
 * with unreadable images, which are reported instead.
 *
 * @throws {DataOptionError} for an option outside its range.
 */
export async function* evaluationBatches(
  source: ImageSource, options: EvaluationBatchOptions,
): AsyncGenerator<EvaluationBatch, void, undefined> {
  const { batchSize } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) throw new DataOptionError(`batchSize is ${batchSize}; give a whole number from 1`);
  const batches = prefetch(prepare(source, options), options.prefetch ?? 2, (batch) => batch.images.dispose());
  for await (const batch of batches) {
    // As in training: the next batches are begun before the consumer holds the thread.
    await new Promise(setImmediate);
    yield batch;
  }
}

async function* prepare(source: ImageSource, options: EvaluationBatchOptions): AsyncGenerator<EvaluationBatch> {
  const [height, width] = sizeOf(options);
  const pool = options.pool ?? sharedImagePool();
  const indices = options.indices ?? Array.from({ length: source.length }, (_, i) => i);
  const load = async (index: number): Promise<{ index: number; image: DecodedImage } | BadImage> => {
    const name = source.name(index);
    try {
      return { index, image: await readImage(source, index) };
    } catch (error) {
      return { index, name, reason: (error as Error).message.replace(`${name}: `, "") };
    }
  };
  let good: number[] = [];
  let bad: BadImage[] = [];
  let requests: RenderRequest[] = [];
  let seen = 0;
  for await (const sample of mapInOrder(indices, load, () => Math.min(options.batchSize, 256))) {
    seen++;
    if ("image" in sample) {
      requests.push(evaluationRequest(sample.image, height, width, options.resizeShorter, good.length));
      good.push(sample.index);
    } else {
      bad.push(sample);
    }
    if (good.length + bad.length < options.batchSize && seen < indices.length) continue;
    const images = keep(empty([good.length, 3, height, width], { dtype: "float32" }));
    try {
      await pool.render(requests, [images], options.normalization ?? imageNetNormalization);
    } catch (error) {
      images.dispose();
      throw error;
    }
    yield { images, indices: good, labels: good.map((index) => source.label(index)), bad };
    good = [];
    bad = [];
    requests = [];
  }
}

function sizeOf({ imageSize, resizeShorter }: EvaluationOptions): readonly [number, number] {
  const [height, width] = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
  for (const size of [height, width]) {
    if (!Number.isInteger(size) || size < 1) throw new DataOptionError(`imageSize is ${size}; give whole numbers from 1`);
  }
  if (resizeShorter !== undefined && !(Number.isInteger(resizeShorter) && resizeShorter >= Math.max(height, width))) {
    const least = Math.max(height, width);
    throw new DataOptionError(`resizeShorter is ${resizeShorter}; give a whole number from ${least}, to cut out ${height} x ${width}`);
  }
  return [height, width];
}

/** torchvision's `Resize` then `CenterCrop`: the longer side is truncated, the margins round half to even. */
function evaluationRequest(
  image: DecodedImage, height: number, width: number, resizeShorter: number | undefined, row: number,
): RenderRequest {
  const crop = { top: 0, left: 0, height: image.height, width: image.width };
  let resizing = { height, width, top: 0, left: 0 };
  if (resizeShorter !== undefined) {
    const wide = image.width > image.height;
    const long = Math.trunc((resizeShorter * (wide ? image.width : image.height)) / (wide ? image.height : image.width));
    const [resizedHeight, resizedWidth] = wide ? [resizeShorter, long] : [long, resizeShorter];
    const margin = (whole: number, part: number): number => roundHalfEven((whole - part) / 2);
    resizing = { height: resizedHeight, width: resizedWidth, top: margin(resizedHeight, height), left: margin(resizedWidth, width) };
  }
  return { image, renderings: [{ output: 0, row, crop, resizing }] };
}
