import { constrainedMemory } from "node:process";
import { totalmem } from "node:os";
import { empty, keep, type Tensor } from "../torch/index.js";
import { drawView, viewRecipes, type RecipeChanges, type ViewRecipe } from "./augmentation.js";
import type { DecodedImage } from "./decodedImage.js";
import { DataOptionError, TooManyBadImagesError, type BadImage } from "./errors.js";
import { ImagePool, type RenderRequest } from "./imagePool.js";
import { readImage, requireImages, type ImageSource } from "./imageSource.js";
import { mapInOrder, prefetch } from "./prefetch.js";
import { Sampler } from "./sampler.js";

export interface TwoViewOptions {
  /** Images in a batch of this rank. */
  batchSize: number;
  /** Height and width of the views in pixels. */
  imageSize: number | readonly [number, number];
  seed: number;
  /** Smallest area of a crop as a fraction of the image's. Default 0.08. */
  cropMin?: number;
  /** Changes to upstream's recipe. */
  augmentation?: RecipeChanges;
  /** Native threads that augment. Default: as many as the machine has. */
  threads?: number;
  /** Finished batches that wait for the consumer. Default 2. */
  prefetch?: number;
  /** Fraction of the data set that may be unreadable. Default 0.01. */
  maxBad?: number;
  /** This process among `worldSize`, from 0. */
  rank?: number;
  worldSize?: number;
  /** Keep decoded images in memory, as far as a quarter of the machine's goes. Default false. */
  cache?: boolean;
  /** Images that an earlier run found unreadable (`loader.bad`): they are skipped without being tried again. */
  knownBad?: readonly number[];
}

/** One step's worth of images. */
export interface TwoViewBatch {
  /** Float32 [N, 3, H, W] on the CPU, normalised; the consumer disposes of them. */
  views: [Tensor, Tensor];
  /** The samples, row by row. */
  indices: number[];
  /** Counted from 0 in each epoch. */
  step: number;
  /** How long the consumer waited for this batch, in milliseconds. */
  waitMs: number;
  /** Disposes of the views: `for await (using batch of loader.epoch(0))` does so at the end of each turn. */
  [Symbol.dispose](): void;
}

type Loaded = { position: number; index: number } & ({ image: DecodedImage } | { reason: string });

/** Images that become one native job: enough to keep its overhead small, few enough to start early. */
const imagesPerJob = 16;
/** Decoded images that may wait for their turn, in bytes. */
const waitingBytes = 512 * 2 ** 20;

/**
 * Two differently augmented views of every image, in batches, prepared in the background while the training step runs.
 *
 * The batches depend on the seed, the epoch and the set of unreadable images only: not on threads, timing or where an epoch was
 * resumed. An image that cannot be read is listed in `bad` and left out; the following images of the epoch move up, so batches stay
 * full. Where that leaves the last batch short, it is completed with images from the epoch's beginning, as `DistributedSampler` pads.
 *
 * @example
 * const loader = new TwoViewLoader(await ImageFolder.open("photos"), { batchSize: 256, imageSize: 224, seed: 0 });
 * for await (const { views, step } of loader.epoch(0)) {
 *   ...
 *   views.forEach((view) => view.dispose());
 * }
 * await loader.close();
 */
export class TwoViewLoader {
  readonly stepsPerEpoch: number;
  readonly source: ImageSource;
  readonly recipes: readonly [ViewRecipe, ViewRecipe];
  readonly #batchSize: number;
  readonly #height: number;
  readonly #width: number;
  readonly #seed: number;
  readonly #prefetch: number;
  readonly #maxBad: number;
  readonly #sampler: Sampler;
  readonly #pool: ImagePool;
  readonly #bad = new Map<number, BadImage>();
  /** Whether `bad` is known to be complete for epochs that begin in their middle. */
  readonly #trustsBad: boolean;
  readonly #cache: Map<number, DecodedImage> | null;
  #cacheRoom: number;
  #imageBytes = 0;
  readonly #running = new Set<AsyncGenerator<unknown>>();
  #closed = false;

  /**
   * @throws {TooFewImagesError} when a rank's share does not fill one batch.
   * @throws {DataOptionError} for an option outside its range.
   */
  constructor(source: ImageSource, options: TwoViewOptions) {
    const { batchSize, imageSize, seed, prefetch: depth = 2, maxBad = 0.01, rank = 0, worldSize = 1, cache = false } = options;
    const atLeastOne = (name: string, value: number): number => {
      if (!Number.isInteger(value) || value < 1) throw new DataOptionError(`${name} is ${value}; give a whole number from 1`);
      return value;
    };
    this.source = source;
    this.#batchSize = atLeastOne("batchSize", batchSize);
    this.#height = atLeastOne("imageSize", typeof imageSize === "number" ? imageSize : imageSize[0]);
    this.#width = atLeastOne("imageSize", typeof imageSize === "number" ? imageSize : imageSize[1]);
    this.#prefetch = atLeastOne("prefetch", depth);
    if (!Number.isSafeInteger(seed) || seed < 0) throw new DataOptionError(`seed is ${seed}; give a whole number from 0`);
    if (!(maxBad >= 0 && maxBad <= 1)) throw new DataOptionError(`maxBad is ${maxBad}; give a fraction from 0 to 1`);
    this.#seed = seed;
    this.#maxBad = maxBad;
    this.recipes = viewRecipes(options.cropMin, options.augmentation);
    this.#sampler = new Sampler(source.length, { seed, rank, worldSize });
    requireImages(source, batchSize * worldSize);
    this.stepsPerEpoch = Math.floor(this.#sampler.length / batchSize);
    this.#trustsBad = options.knownBad !== undefined;
    for (const index of options.knownBad ?? []) {
      this.#bad.set(index, { index, name: source.name(index), reason: "found unreadable by an earlier run" });
    }
    this.#cache = cache ? new Map() : null;
    this.#cacheRoom = Math.min(totalmem(), constrainedMemory() || Infinity) / 4;
    this.#pool = new ImagePool(options.threads);
  }

  /** The images that could not be read so far. Give their indices as `knownBad` when resuming in the middle of an epoch. */
  get bad(): BadImage[] {
    return [...this.#bad.values()];
  }

  /**
   * The batches of an epoch, from `startStep` on.
   *
   * Without `knownBad`, a start in the middle first reads the images before it, to know how far unreadable ones moved the rest up.
   *
   * @throws {TooManyBadImagesError} when more than `maxBad` of the data set cannot be read.
   */
  async *epoch(epoch: number, startStep = 0): AsyncGenerator<TwoViewBatch, void, undefined> {
    if (this.#closed) throw new Error("the loader is closed; make another");
    const abort = new AbortController();
    const drop = (batch: { views: readonly Tensor[] }): void => batch.views.forEach((view) => view.dispose());
    const batches = prefetch(this.#batches(epoch, startStep, abort.signal), this.#prefetch, drop);
    this.#running.add(batches);
    try {
      for (;;) {
        const asked = performance.now();
        const { value, done } = await batches.next();
        if (done && this.#closed) throw new Error("the loader was closed in the middle of an epoch");
        if (done) return;
        // The consumer may hold the thread for a whole step: first hand the next batches to the threads that prepare them.
        await new Promise(setImmediate);
        yield { ...value, waitMs: performance.now() - asked, [Symbol.dispose]: () => drop(value) };
      }
    } finally {
      abort.abort();
      this.#running.delete(batches);
      await batches.return();
    }
  }

  /** Ends the background work and its threads. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#running].map((batches) => batches.return(undefined)));
    this.#pool.close();
    this.#cache?.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *#batches(
    epoch: number, startStep: number, signal: AbortSignal,
  ): AsyncGenerator<Omit<TwoViewBatch, "waitMs" | typeof Symbol.dispose>> {
    const order = this.#sampler.order(epoch);
    let batch: { views: [Tensor, Tensor]; indices: number[]; jobs: Promise<void>[] } | null = null;
    let requests: RenderRequest[] = [];
    let step = startStep;
    if (step >= this.stepsPerEpoch) return;
    const start = await this.#positionOf(order, startStep * this.#batchSize, signal);
    try {
      for await (const sample of this.#samples(order, start)) {
        if (signal.aborted) return;
        if (!("image" in sample)) continue;
        batch ??= { views: [this.#emptyViews(), this.#emptyViews()], indices: [], jobs: [] };
        requests.push(this.#request(sample.image, sample.index, epoch, batch.indices.length));
        batch.indices.push(sample.index);
        const full = batch.indices.length === this.#batchSize;
        if (full || requests.length === imagesPerJob) {
          const job = this.#pool.render(requests, batch.views);
          job.catch(() => undefined); // awaited with the rest of the batch
          batch.jobs.push(job);
          requests = [];
        }
        if (!full) continue;
        await Promise.all(batch.jobs);
        const { views, indices } = batch;
        batch = null;
        yield { views, indices, step };
        if (++step === this.stepsPerEpoch) return;
      }
    } finally {
      if (batch) {
        await Promise.allSettled(batch.jobs);
        batch.views.forEach((view) => view.dispose());
      }
    }
  }

  #emptyViews(): Tensor {
    return keep(empty([this.#batchSize, 3, this.#height, this.#width], { dtype: "float32" }));
  }

  #request(image: DecodedImage, index: number, epoch: number, row: number): RenderRequest {
    const resizing = { height: this.#height, width: this.#width, top: 0, left: 0 };
    return {
      image,
      renderings: this.recipes.map((recipe, view) => ({
        output: view,
        row,
        resizing,
        ...drawView(recipe, image.width, image.height, { seed: this.#seed, epoch, index, view }),
      })),
    };
  }

  /** Where in the order the sample after `count` good ones stands. */
  async #positionOf(order: Uint32Array, count: number, signal: AbortSignal): Promise<number> {
    if (count === 0) return 0;
    let good = 0;
    if (this.#trustsBad) {
      for (const { position } of this.#positions(order, 0)) if (++good === count) return position + 1;
    } else {
      for await (const sample of this.#samples(order, 0)) {
        if (signal.aborted) return 0;
        if ("image" in sample && ++good === count) return sample.position + 1;
      }
    }
    throw new Error("unreachable: positions never end");
  }

  /** Positions of the order and on from its beginning again, without the images that are known to be bad. */
  *#positions(order: Uint32Array, start: number): Generator<{ position: number; index: number }> {
    for (let position = start; ; position++) {
      const index = order[position % order.length]!;
      if (!this.#bad.has(index)) yield { position, index };
    }
  }

  #samples(order: Uint32Array, start: number): AsyncGenerator<Loaded> {
    // A step holds the JavaScript thread: enough must be under way before it to feed the batches after it.
    const wanted = this.#batchSize * this.#prefetch;
    const ahead = (): number => Math.min(wanted, Math.max(16, Math.floor(waitingBytes / Math.max(this.#imageBytes, 1))));
    return this.#judged(mapInOrder(this.#positions(order, start), (place) => this.#load(place), ahead));
  }

  /** Notes the bad ones, in the order of the epoch, so that the limit strikes at the same step in every run. */
  async *#judged(samples: AsyncGenerator<Loaded>): AsyncGenerator<Loaded> {
    for await (const sample of samples) {
      if ("reason" in sample) this.#reject(sample.index, sample.reason);
      yield sample;
    }
  }

  #reject(index: number, reason: string): void {
    const name = this.source.name(index);
    this.#bad.set(index, { index, name, reason: reason.startsWith(`${name}: `) ? reason.slice(name.length + 2) : reason });
    const { length } = this.source;
    if (this.#bad.size > this.#maxBad * length || this.#bad.size === length) {
      throw new TooManyBadImagesError(this.bad, length, this.#maxBad);
    }
  }

  async #load(place: { position: number; index: number }): Promise<Loaded> {
    const cached = this.#cache?.get(place.index);
    if (cached) return { ...place, image: cached };
    try {
      const image = await readImage(this.source, place.index);
      const bytes = image.data.length;
      this.#imageBytes = this.#imageBytes === 0 ? bytes : 0.9 * this.#imageBytes + 0.1 * bytes;
      if (this.#cache && bytes <= this.#cacheRoom && !this.#cache.has(place.index)) {
        this.#cacheRoom -= bytes;
        this.#cache.set(place.index, image);
      }
      return { ...place, image };
    } catch (error) {
      return { ...place, reason: (error as Error).message };
    }
  }
}
