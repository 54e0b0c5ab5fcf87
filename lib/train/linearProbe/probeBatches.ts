import { join } from "node:path";
import {
  cropAndFlip, isStream, nameOf, requireLabels, TooManyBadImagesError, ViewLoader, Sampler, DataOptionError,
  type BadImage, type ImageSource, type ImageStream,
} from "../../data/index.js";
import type { Tensor } from "../../torch/index.js";
import * as torch from "../../torch/index.js";
import { featureKey, FeatureMatrix, type LabelledRows } from "./featureMatrix.js";
import { requireFiniteFeatures, type FeatureExtractor } from "../features.js";
import type { LinearRecipe } from "./linearOptions.js";

/** Features of one step's images, and their classes. */
export interface ProbeBatch {
  /** Float32 [N, D] on the device. */
  features: Tensor;
  labels: readonly number[];
  /** How long the step waited for images, in milliseconds. */
  waitMs: number;
  [Symbol.dispose](): void;
}

/** Where a linear probe's training takes its features from. */
export interface ProbeBatches {
  /** Images, or rows of features, of an epoch. */
  readonly images: number;
  readonly stepsPerEpoch: number;
  /** Images that could not be read so far. */
  readonly bad: readonly BadImage[];
  /** Those of them that a checkpoint must remember, because images after them moved up in the batches. */
  readonly moved: readonly BadImage[];
  /** The batches of an epoch from `startStep` on, the last one as short as it comes. */
  epoch(epoch: number, startStep: number): AsyncIterable<ProbeBatch>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ProbeData {
  source: ImageSource | ImageStream;
  classes: readonly string[];
  extractor: FeatureExtractor;
  recipe: LinearRecipe;
  seed: number;
}

/** Features of new random crops in every epoch, as upstream's linear probe has them. */
export class CroppedBatches implements ProbeBatches {
  readonly #loader: ViewLoader<[Tensor]>;

  /**
   * @param knownBad images that the run which is resumed found unreadable
   * @param ranks whose part of each batch it is
   */
  constructor(private readonly data: ProbeData, knownBad: readonly number[] | undefined, ranks = { rank: 0, size: 1 }) {
    const { source, extractor, recipe, seed } = data;
    this.#loader = new ViewLoader(source, [cropAndFlip(recipe.cropMin)], {
      batchSize: recipe.batchSize / ranks.size, rank: ranks.rank, worldSize: ranks.size, imageSize: extractor.imageSize, seed, threads: recipe.workers, exif: recipe.exif, cache: recipe.cacheImages,
      maxBad: recipe.maxBad, knownBad, dropLast: false, pinMemory: recipe.device.startsWith("cuda"),
    });
  }

  get images(): number {
    return this.data.source.length;
  }

  get stepsPerEpoch(): number {
    return this.#loader.stepsPerEpoch;
  }

  get bad(): BadImage[] {
    return this.#loader.bad;
  }

  get moved(): BadImage[] {
    return this.bad;
  }

  async *epoch(epoch: number, startStep: number): AsyncGenerator<ProbeBatch, void, undefined> {
    if (startStep >= this.stepsPerEpoch) return;
    const { source, classes, extractor } = this.data;
    for await (using batch of this.#loader.epoch(epoch, startStep)) {
      const nameAt = (row: number): string => (isStream(source) ? `image ${batch.indices[row]}` : nameOf(source, batch.indices[row]!));
      const labels = requireLabels(batch.labels, classes.length, nameAt);
      const features = torch.keep(extractor.forward(batch.views[0]));
      requireFiniteFeatures(features, nameAt);
      yield { features, labels, waitMs: batch.waitMs, [Symbol.dispose]: () => features.dispose() };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loader.close();
  }
}

/** Features that were computed once, in a new order in every epoch. */
export class CachedBatches implements ProbeBatches {
  readonly images: number;
  readonly stepsPerEpoch: number;
  readonly moved: readonly BadImage[] = [];
  readonly #sampler: Sampler;

  private constructor(
    private readonly matrix: FeatureMatrix, private readonly views: number, readonly bad: readonly BadImage[],
    private readonly data: ProbeData,
  ) {
    const { recipe, seed } = data;
    this.images = Math.floor(matrix.length / views);
    this.stepsPerEpoch = Math.ceil(this.images / recipe.batchSize);
    this.#sampler = new Sampler(this.images, { seed });
  }

  /**
   * Computes the features: of each image's centre, or of `recipe.cacheViews` random crops of it.
   *
   * @param onFeatures told how many rows of how many are done
   * @returns null where `signal` was aborted before the end
   */
  static async create(data: ProbeData, onFeatures: (done: number, all: number) => void, signal?: AbortSignal): Promise<CachedBatches | null> {
    const { source, recipe } = data;
    const views = Math.max(1, recipe.cacheViews);
    const bad: BadImage[] = [];
    const rows = recipe.cacheViews > 0 ? cropRows(data, bad) : centreRows(data, bad);
    const matrix = await collectRows(data, "train", views * source.length, rows, onFeatures, signal);
    return matrix === null ? null : new CachedBatches(matrix, views, bad, data);
  }

  async *epoch(epoch: number, startStep: number): AsyncGenerator<ProbeBatch, void, undefined> {
    const { batchSize, device } = this.data.recipe;
    const order = await this.#sampler.order(epoch);
    const first = (epoch % this.views) * this.images;
    for (let step = startStep; step < this.stepsPerEpoch; step++) {
      const count = Math.min(batchSize, this.images - step * batchSize);
      const rows = Array.from({ length: count }, (_, i) => first + order.at(step * batchSize + i));
      const features = torch.keep(this.matrix.rows(rows, device));
      yield { features, labels: rows.map((row) => this.matrix.labels[row]!), waitMs: 0, [Symbol.dispose]: () => features.dispose() };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.matrix.dispose();
  }
}

/** Features of the images to judge by, of their centres, and what could not be read. */
export interface ValidationFeatures extends Disposable {
  matrix: FeatureMatrix;
  bad: readonly BadImage[];
}

/** @returns null where `signal` was aborted before the end */
export async function validationFeatures(
  data: ProbeData, onFeatures: (done: number, all: number) => void, signal?: AbortSignal,
): Promise<ValidationFeatures | null> {
  const bad: BadImage[] = [];
  const matrix = await collectRows(data, "val", data.source.length, centreRows(data, bad), onFeatures, signal);
  if (matrix === null) return null;
  if (matrix.length === 0) {
    matrix.dispose();
    throw new DataOptionError("there is no image to judge by: none could be read; give other images with --val");
  }
  return { matrix, bad, [Symbol.dispose]: () => matrix.dispose() };
}

/** Thrown inside, where the extraction is to end early. */
class Aborted extends Error {}

async function collectRows(
  data: ProbeData, part: "train" | "val", rows: number, batches: () => AsyncIterable<LabelledRows>,
  onFeatures: (done: number, all: number) => void, signal: AbortSignal | undefined,
): Promise<FeatureMatrix | null> {
  const { source, extractor, recipe, seed } = data;
  const { encoder, imageSize, layer } = extractor;
  let done = 0;
  async function* told(): AsyncGenerator<LabelledRows, void, undefined> {
    for await (const batch of batches()) {
      if (signal?.aborted) {
        batch.features.dispose();
        throw new Aborted();
      }
      onFeatures((done += batch.labels.length), rows);
      yield batch;
    }
  }
  const key = isStream(source) ? null : (): string => {
    const { cropMin, cacheViews, exif, precision } = recipe;
    const crops = part === "train" && cacheViews > 0 ? { cropMin, cacheViews, seed } : {};
    const names = (function* () {
      for (let i = 0; i < source.length; i++) yield `${nameOf(source, i)} ${source.label?.(i) ?? ""}`;
    })();
    const weights = new Map([...encoder.stateDict()].filter(([name]) => !name.startsWith(`${encoder.headKey}.`)));
    return featureKey({ part, rows, imageSize, layer, exif, precision, ...crops }, names, weights);
  };
  try {
    return await FeatureMatrix.collect(told, {
      rows, dim: extractor.dim, device: recipe.device, memory: recipe.featureMemory, key,
      file: recipe.out === null ? null : join(recipe.out, `features-${part}.safetensors`),
    });
  } catch (error) {
    if (error instanceof Aborted) return null;
    throw error;
  }
}

function centreRows({ source, classes, extractor, recipe }: ProbeData, bad: BadImage[]): () => AsyncIterable<LabelledRows> {
  return async function* () {
    for await (const batch of extractor.batches(source, { exif: recipe.exif })) {
      bad.push(...batch.bad);
      if (bad.length > recipe.maxBad * source.length) {
        batch.features.dispose();
        throw new TooManyBadImagesError(bad, source.length, recipe.maxBad);
      }
      yield labelled(batch.features, () => requireLabels(batch.labels, classes.length, (row) => batch.names[row]!));
    }
  };
}

/** One epoch of random crops after the other; each has as many rows as there are images. */
function cropRows(data: ProbeData, bad: BadImage[]): () => AsyncIterable<LabelledRows> {
  return async function* () {
    await using crops = new CroppedBatches(data, undefined);
    try {
      for (let view = 0; view < data.recipe.cacheViews; view++) {
        for await (const { features, labels } of crops.epoch(view, 0)) yield { features, labels };
      }
    } finally {
      bad.push(...crops.bad);
    }
  };
}

function labelled(features: Tensor, labels: () => number[]): LabelledRows {
  try {
    return { features, labels: labels() };
  } catch (error) {
    features.dispose();
    throw error;
  }
}
