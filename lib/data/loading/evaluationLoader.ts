import { empty, keep, tensor, type Tensor } from "../../torch/index.js";
import { requireInterpolation, type Interpolation } from "../augmentation/interpolation.js";
import { BadImageError, DataOptionError, type BadImage } from "../errors.js";
import { sharedImagePool, type ImagePool, type Normalization, type Rendering } from "../imagePool.js";
import { isStream, labelOf, nameOf, type ImageSource, type ImageStream } from "../imageSource.js";
import type { Sample } from "./epochSamples.js";
import { renderImages } from "./renderImages.js";

/** Size and preparation of images for judging. */
export interface EvaluationOptions {
  /** Height and width of the result in pixels. */
  imageSize: number | readonly [number, number];
  /**
   * Length to which the shorter side is resized (the longer is truncated, as torchvision's `Resize` does) before the centre is cut out
   * (256 for 224 in the paper's evaluation). Without it the whole image is resized to `imageSize`, whatever its shape.
   */
  resizeShorter?: number;
  /** Default bilinear, as upstream. */
  interpolation?: Interpolation;
  normalization?: Normalization;
  /** Turn pictures upright as their EXIF orientation says. Default false, as upstream. */
  exif?: boolean;
  /** Default: a pool that all evaluation shares. */
  pool?: ImagePool;
}

/** Which images make up the batches. */
export interface EvaluationBatchOptions extends EvaluationOptions {
  batchSize: number;
  /** Which images of a source, in which order. Default: all. A stream's images come in an order of its own, each once. */
  indices?: readonly number[];
  /** Batches that are made ahead of the consumer. Default 2. */
  prefetch?: number;
}

/** Images as an encoder is judged by them, `[N, 3, H, W]`, with what belongs to them. */
export interface EvaluationBatch {
  /** Float32 [n, 3, H, W]; the consumer disposes of it. */
  images: Tensor;
  /** The samples, row by row: indices of a source, ids of a stream. Unreadable ones are not among them. */
  indices: number[];
  /** The source's names of them. */
  names: string[];
  /** Class indices, null where the source has none. */
  labels: (number | null)[];
  /** What could not be read. */
  bad: BadImage[];
}

/** Length of the shorter side before the centre is cut out: 256 for 224, and in that ratio for other sizes. */
export function evaluationResize(imageSize: number | readonly [number, number]): number {
  const longer = typeof imageSize === "number" ? imageSize : Math.max(...imageSize);
  return Math.round((longer * 8) / 7);
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
  source: ImageSource | ImageStream, options: EvaluationBatchOptions,
): AsyncGenerator<EvaluationBatch, void, undefined> {
  const { batchSize, prefetch = 2 } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) throw new DataOptionError(`batchSize is ${batchSize}; give a whole number from 1`);
  if (!Number.isInteger(prefetch) || prefetch < 1) throw new DataOptionError(`prefetch is ${prefetch}; give a whole number from 1`);
  if (options.interpolation !== undefined) requireInterpolation(options.interpolation);
  const size = sizeOf(options);
  const samples = isStream(source) ? streamedSamples(source) : sourceSamples(source, options.indices);
  const making: Promise<EvaluationBatch>[] = [];
  const beginAhead = async (): Promise<void> => {
    while (making.length < prefetch) {
      const taken = await take(samples, batchSize);
      if (taken.length === 0) return;
      const batch = makeBatch(taken, size, options);
      batch.catch(() => undefined); // seen by whoever takes it
      making.push(batch);
    }
  };
  try {
    for (await beginAhead(); making.length > 0;) {
      const batch = await making.shift()!;
      await beginAhead();
      // As in training: the next batches are begun before the consumer holds the thread.
      await new Promise(setImmediate);
      yield batch;
    }
  } finally {
    await samples.return?.();
    for (const batch of await Promise.allSettled(making)) if (batch.status === "fulfilled") batch.value.images.dispose();
  }
}

function* sourceSamples(source: ImageSource, indices: readonly number[] | undefined): Generator<Sample, void, undefined> {
  const length = indices?.length ?? source.length;
  for (let position = 0; position < length; position++) {
    const index = indices?.[position] ?? position;
    yield { id: index, name: nameOf(source, index), label: labelOf(source, index), image: () => source.image(index) };
  }
}

async function* streamedSamples(source: ImageStream): AsyncGenerator<Sample, void, undefined> {
  for await (const { id, name, label, image } of source.stream({ seed: 0, epoch: 0, rank: 0, worldSize: 1 })) {
    if (image instanceof Promise) image.catch(() => undefined); // seen by whoever renders it
    yield { id, name, label, image: () => image };
  }
}

async function take(samples: Iterator<Sample> | AsyncIterator<Sample>, count: number): Promise<Sample[]> {
  const taken: Sample[] = [];
  while (taken.length < count) {
    const { value, done } = await samples.next();
    if (done) break;
    taken.push(value);
  }
  return taken;
}

async function makeBatch(
  samples: readonly Sample[], [height, width]: readonly [number, number], options: EvaluationBatchOptions,
): Promise<EvaluationBatch> {
  const { resizeShorter, interpolation, normalization, exif } = options;
  const resizing: Rendering["resizing"] = resizeShorter === undefined ? undefined : { shorter: resizeShorter };
  let images = keep(empty([samples.length, 3, height, width], { dtype: "float32" }));
  try {
    const asked = samples.map(({ image }, row) => ({ image, renderings: [{ output: 0, row, resizing, interpolation }] }));
    const outcomes = await renderImages(options.pool ?? sharedImagePool(), asked, [images], { normalization, exif });
    const rows: number[] = [];
    const bad: BadImage[] = [];
    outcomes.forEach((outcome, row) => {
      const { id, name } = samples[row]!;
      if ("reason" in outcome) bad.push({ index: id, name, reason: outcome.reason });
      else rows.push(row);
    });
    if (rows.length < samples.length) {
      const all = images;
      const kept = tensor(BigInt64Array.from(rows, BigInt));
      images = keep(all.indexSelect(0, kept));
      kept.dispose();
      all.dispose();
    }
    const good = rows.map((row) => samples[row]!);
    const [indices, names, labels] = [good.map(({ id }) => id), good.map(({ name }) => name), good.map(({ label }) => label)];
    return { images, indices, names, labels, bad };
  } catch (error) {
    images.dispose();
    throw error;
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
