import { constrainedMemory } from "node:process";
import { totalmem } from "node:os";
import type { Tensor } from "../../torch/index.js";
import { checkRecipe, drawView, type ViewRecipe } from "../augmentation/augmentation.js";
import { BatchInMaking } from "./batchInMaking.js";
import type { DecodedImage } from "../decoding/decodedImage.js";
import { epochSamples, samplesPerRank, type EpochSamples, type Sample } from "./epochSamples.js";
import { DeviceAugmentation } from "../augmentation/deviceAugmentation.js";
import { requireDeviceRecipe } from "../augmentation/devicePlan.js";
import { finished, onDevice, type DeviceWork, type HostBatch } from "../augmentation/deviceBatches.js";
import { DataOptionError, TooManyBadImagesError, type BadImage } from "../errors.js";
import type { ImageInput } from "../imageInput.js";
import { ImagePool, type Rendering } from "../imagePool.js";
import { isStream, nameOf, requireImages, type ImageSource, type ImageStream } from "../imageSource.js";
import { givenImage } from "../decoding/readImage.js";
import { renderImages } from "./renderImages.js";
import { requireRank } from "./sampler.js";
import { ViewBuffers, type ViewShape } from "./viewBuffers.js";

/** Batches, views and threads of a {@link ViewLoader}. */
export interface ViewLoaderOptions {
  /** Images in a batch of this rank. */
  batchSize: number;
  /** Height and width of the views in pixels. */
  imageSize: number | readonly [number, number];
  seed: number;
  /** Native threads that read, decode and augment. Default: as many as the machine has. */
  threads?: number;
  /** Batches that are made ahead of the consumer. Default 2, or 1 where a batch takes more than 2 GiB. */
  prefetch?: number;
  /** Fraction of the data set that may be unreadable. Default 0.01. */
  maxBad?: number;
  /** This process among `worldSize`, from 0. */
  rank?: number;
  worldSize?: number;
  /** Leave out an epoch's last images where they do not fill a batch. Default true. */
  dropLast?: boolean;
  /**
   * How often each image of an epoch comes, one time after the other and each time with views of its own (repeated augmentation; DeiT: 3). The
   * epoch stays as long, so it has only every so many of the images. Streams have no order to do so in. Default 1.
   */
  repeats?: number;
  /** Keep decoded images in memory, as far as a quarter of the machine's goes. Default false. */
  cache?: boolean;
  /** Images that an earlier run found unreadable (`loader.bad`): they are skipped without being tried again. */
  knownBad?: readonly number[];
  /** Turn pictures upright as their EXIF orientation says. Default false, as upstream. */
  exif?: boolean;
  /**
   * A device that gets the crops and does the rest (colour, blur, solarize, flip, normalisation) in a stream of its own, such as `"cuda"`.
   * Default: none; the image threads do it all.
   */
  augmentOn?: string;
  /** A device that gets the views, finished by the image threads, in a stream of its own, such as `"cuda"`. Default: they stay on the CPU. */
  copyTo?: string;
  /**
   * `"uint8"`: views are pictures, not normalised, in a quarter of the memory, for a consumer that normalises a part of the batch at a time
   * (`PixelNormalizer`). Not with `augmentOn`, whose device normalises, nor with erasing, which comes after it. Default `"float32"`.
   */
  dtype?: "float32" | "uint8";
  /** Page-locked memory for the views, from which a GPU copies without holding the thread. Default: where they go to a GPU. */
  pinMemory?: boolean;
}

/** One step's worth of images. */
export interface ViewBatch<Views extends readonly Tensor[] = readonly Tensor[]> {
  /** Float32 [N, 3, H, W] each, normalised, or uint8 as `dtype` asks, on the CPU or on the device that augments or gets them. */
  views: Views;
  /** Class indices, row by row; null where the data set has none. */
  labels: (number | null)[];
  /** The samples, row by row: indices of a source, ids of a stream. */
  indices: number[];
  /** Counted from 0 in each epoch. */
  step: number;
  /** How long the consumer waited for this batch, in milliseconds. */
  waitMs: number;
  /**
   * Gives the views back, for use again; copies to a device must be done by then. `for await (using batch of loader.epoch(0))` does so at
   * the end of each turn.
   */
  [Symbol.dispose](): void;
}

/** How long `close` waits for images that are being read, in milliseconds. */
const closePatienceMs = 3000;
/** Images that become one native job: enough to keep its overhead small, few enough to start early. */
const imagesPerJob = 16;

/**
 * Augmented views of every image, as many as there are recipes, in batches, prepared in the background while the training step runs.
 *
 * The batches depend on the seed, the epoch and the set of unreadable images only: not on threads, timing or where an epoch was
 * resumed. An image that cannot be read is listed in `bad` and left out; the following images of the epoch move up, so batches stay
 * full. Where that leaves the last batch short, it is completed with images from the epoch's beginning, as `DistributedSampler` pads.
 *
 * @example
 * const loader = new ViewLoader(await ImageFolder.open("photos"), [cropAndFlip()], { batchSize: 256, imageSize: 224, seed: 0 });
 * for await (using batch of loader.epoch(0)) {
 *   const { views: [images], labels } = batch;
 *   ...
 * }
 * await loader.close();
 */
export class ViewLoader<Views extends readonly Tensor[] = readonly Tensor[]> {
  readonly stepsPerEpoch: number;
  readonly source: ImageSource | ImageStream;
  readonly pool: ImagePool;
  readonly #options: Required<Pick<ViewLoaderOptions, "batchSize" | "seed" | "prefetch" | "maxBad" | "rank" | "worldSize" | "exif" | "repeats">>;
  readonly #samplesPerEpoch: number;
  readonly #buffers: ViewBuffers;
  /** Null where the image threads do it all. */
  readonly #augmentation: DeviceAugmentation | null;
  /** What brings the batches to a device; null where they stay on the CPU. */
  readonly #deviceWork: DeviceWork | null;
  readonly #bad = new Map<number, BadImage>();
  /** Whether `bad` is known to be complete for epochs that begin in their middle. */
  readonly #trustsBad: boolean;
  readonly #cache: Map<number, DecodedImage> | null;
  #cacheRoom: number;
  readonly #running = new Set<AsyncGenerator<unknown>>();
  #closed = false;

  /**
   * @param recipes what happens to each view
   * @throws {TooFewImagesError} when a rank's share does not fill one batch.
   * @throws {DataOptionError} for an option outside its range.
   */
  constructor(source: ImageSource | ImageStream, readonly recipes: readonly ViewRecipe[], options: ViewLoaderOptions) {
    const { batchSize, imageSize, seed, maxBad = 0.01, rank = 0, worldSize = 1, cache = false, exif = false, dropLast = true, repeats = 1 } = options;
    const { augmentOn, copyTo = augmentOn, dtype = "float32" } = options;
    const { pinMemory: pinned = copyTo?.startsWith("cuda") ?? false } = options;
    const atLeastOne = (name: string, value: number): number => {
      if (!Number.isInteger(value) || value < 1) throw new DataOptionError(`${name} is ${value}; give a whole number from 1`);
      return value;
    };
    const [height, width] = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
    const batchBytes = recipes.length * batchSize * 3 * height * width * (augmentOn === undefined && dtype === "float32" ? 4 : 1);
    const { prefetch = batchBytes > 2 ** 31 ? 1 : 2 } = options;
    atLeastOne("batchSize", batchSize);
    atLeastOne("imageSize", height);
    atLeastOne("imageSize", width);
    atLeastOne("prefetch", prefetch);
    requireRank(rank, worldSize);
    if (!Number.isSafeInteger(seed) || seed < 0) throw new DataOptionError(`seed is ${seed}; give a whole number from 0`);
    if (!(maxBad >= 0 && maxBad <= 1)) throw new DataOptionError(`maxBad is ${maxBad}; give a fraction from 0 to 1`);
    this.source = source;
    atLeastOne("repeats", repeats);
    if (repeats > 1 && isStream(source)) throw new DataOptionError(`repeats is ${repeats}, and shards come in an order of their own; give 1, or a folder`);
    this.#options = { batchSize, seed, prefetch, maxBad, rank, worldSize, exif, repeats };
    recipes.forEach(checkRecipe);
    if (augmentOn !== undefined) recipes.forEach(requireDeviceRecipe);
    if (dtype === "uint8") requireBytes(recipes, augmentOn);
    requireImages(source, dropLast ? batchSize * worldSize : 1);
    this.#samplesPerEpoch = samplesPerRank(source, worldSize);
    // Of the whole batch, so that an epoch is as long for any number of ranks: what pads a rank's share fills no step by itself.
    this.stepsPerEpoch = dropLast ? Math.floor(source.length / (batchSize * worldSize)) : Math.ceil(this.#samplesPerEpoch / batchSize);
    this.#trustsBad = options.knownBad !== undefined;
    for (const id of options.knownBad ?? []) {
      const name = isStream(source) ? `image ${id}` : nameOf(source, id);
      this.#bad.set(id, { index: id, name, reason: "found unreadable by an earlier run" });
    }
    this.#cache = cache ? new Map() : null;
    this.#cacheRoom = Math.min(totalmem(), constrainedMemory() || Infinity) / 4;
    this.#augmentation = augmentOn === undefined ? null : new DeviceAugmentation(augmentOn);
    this.#deviceWork = this.#augmentation ?? (copyTo === undefined || copyTo === "cpu" ? null : finished(copyTo));
    const shape: ViewShape = { views: recipes.length, height, width, dtype: this.#augmentation ? "uint8" : dtype, pinned };
    this.#buffers = new ViewBuffers(batchSize, shape, prefetch + 1);
    this.pool = new ImagePool(options.threads);
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
  async *epoch(epoch: number, startStep = 0): AsyncGenerator<ViewBatch<Views>, void, undefined> {
    if (this.#closed) throw new Error("the loader is closed; make another");
    const made = this.#batches(epoch, startStep);
    const batches = this.#deviceWork ? onDevice(made, this.#deviceWork) : made;
    this.#running.add(batches);
    try {
      for (;;) {
        const asked = performance.now();
        const { value, done } = await batches.next();
        if (this.#closed) {
          value?.[Symbol.dispose](); // of a batch that came too late
          throw new Error("the loader was closed in the middle of an epoch");
        }
        if (done) return;
        const { views, samples, step } = value;
        yield {
          views: views as readonly Tensor[] as Views, labels: samples.map(({ label }) => label), indices: samples.map(({ id }) => id), step,
          waitMs: performance.now() - asked, [Symbol.dispose]: () => value[Symbol.dispose](),
        };
      }
    } finally {
      this.#running.delete(batches);
      await batches.return();
    }
  }

  /** Ends the background work and its threads. Waits for images that are being read, but not for long. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.pool.cancel();
    const ended = Promise.all([...this.#running].map((batches) => batches.return(undefined))).then(() => {
      this.pool.close();
      this.#buffers.close();
      this.#deviceWork?.dispose();
      this.#cache?.clear();
    });
    // An image that does not come, from a network that hangs, holds up nobody; what it would be written into is freed when it has come.
    using patience = timeout(closePatienceMs);
    await Promise.race([ended, patience.over]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *#batches(epoch: number, startStep: number): AsyncGenerator<HostBatch, void, undefined> {
    const { batchSize, prefetch, seed, rank, worldSize, repeats } = this.#options;
    const samples = epochSamples(this.source, { seed, epoch, rank, worldSize }, repeats);
    let stopped = false;
    // One batch after the other takes its images from the epoch.
    let pulled = this.#skip(samples, Math.min(startStep, this.stepsPerEpoch) * batchSize);
    pulled.catch(() => undefined); // seen by the batch that waits for it
    const begin = (size: number): BatchInMaking => new BatchInMaking(size, this.#buffers, async (batch) => {
      const jobs: Promise<void>[] = [];
      try {
        await (pulled = pulled.then(async () => {
          while (batch.rows.length < size) {
            const sample = await this.#nextGood(samples);
            if (stopped) throw new Error("the epoch was left");
            if (sample === null) throw new DataOptionError("the stream ended without any image; check its shards");
            const first = (sample.copy ?? 0) * this.recipes.length;
            const draws = this.recipes.map((recipe, view) => drawView(recipe, { seed, epoch, index: sample.id, view: first + view }));
            const count = batch.rows.push({ sample, draws, reason: null });
            if (count % imagesPerJob === 0 || count === size) jobs.push(this.#prepare(batch, count - 1 - ((count - 1) % imagesPerJob)));
          }
        }));
        await Promise.all(jobs);
      } finally {
        await Promise.allSettled(jobs); // nobody may write into tensors that are gone
      }
    });
    const making: BatchInMaking[] = [];
    let begun = startStep;
    const beginUpTo = (count: number): void => {
      for (; begun < this.stepsPerEpoch && making.length < count; begun++) {
        making.push(begin(Math.min(batchSize, this.#samplesPerEpoch - begun * batchSize)));
      }
    };
    try {
      for (let step = startStep; step < this.stepsPerEpoch; step++) {
        beginUpTo(prefetch);
        const batch = making[0]!;
        await this.#complete(batch, making.slice(1), begin);
        beginUpTo(prefetch + 1);
        // The consumer may hold the thread for a whole step: first hand the next batches to the threads that prepare them.
        await new Promise(setImmediate);
        making.shift(); // from here on it is the consumer's
        const { views, rows } = batch;
        const parameters = views.map((_, view) => rows.map((row) => row.draws[view]!));
        yield { views, parameters, samples: rows.map(({ sample }) => sample), step, [Symbol.dispose]: () => batch.dispose() };
      }
    } finally {
      stopped = true;
      if (this.#running.size === 0) this.pool.cancel(); // or the work is another epoch's, too
      const ended = samples.return();
      await Promise.allSettled(making.map((batch) => batch.written));
      making.forEach((batch) => batch.dispose());
      await ended;
    }
  }

  /** Judges a batch's images in their order and fills the rows of bad ones from the batches after it: the following images move up. */
  async #complete(batch: BatchInMaking, later: readonly BatchInMaking[], begin: (size: number) => BatchInMaking): Promise<void> {
    let filled = 0;
    const takeFrom = async (from: BatchInMaking): Promise<void> => {
      await from.written;
      for (; filled < batch.size && from.taken < from.size; from.taken++) {
        const { sample, reason } = from.rows[from.taken]!;
        if (reason !== null) this.#reject(sample, reason);
        else batch.copyRow(filled++, from, from.taken);
      }
    };
    await takeFrom(batch);
    for (const next of later) if (filled < batch.size) await takeFrom(next);
    while (filled < batch.size) {
      // No more is begun than is missing, so nothing of it is left over.
      const more = begin(batch.size - filled);
      try {
        await takeFrom(more);
      } finally {
        await more.written.catch(() => undefined);
        more.dispose();
      }
    }
  }

  /** The next image that is not known to be bad, or null at the end. */
  async #nextGood(samples: EpochSamples): Promise<Sample | null> {
    for (;;) {
      const { value, done } = await samples.next();
      if (done) return null;
      if (!this.#bad.has(value.id)) return value;
    }
  }

  /** Goes past as many good images as earlier steps have used. */
  async #skip(samples: EpochSamples, count: number): Promise<void> {
    for (let good = 0; good < count;) {
      const passed: Sample[] = [];
      while (passed.length < Math.min(imagesPerJob * this.pool.threads, count - good)) {
        const sample = await this.#nextGood(samples);
        if (sample === null) return;
        passed.push(sample);
      }
      const reasons = this.#trustsBad ? passed.map(() => null) : await this.#render(passed.map((sample) => ({ sample, renderings: [] })), []);
      passed.forEach((sample, i) => {
        const reason = reasons[i]!;
        if (reason === null) good++;
        else this.#reject(sample, reason);
      });
    }
  }

  /** Renders the rows from `first` on. */
  async #prepare(batch: BatchInMaking, first: number): Promise<void> {
    const rows = batch.rows.slice(first);
    const asked = rows.map(({ sample, draws }, i) => ({
      sample,
      renderings: draws.map((draw, view) => {
        const place = { output: view, row: first + i };
        return this.#augmentation ? { ...place, crop: draw.crop, interpolation: draw.interpolation } : { ...place, ...draw };
      }),
    }));
    const reasons = await this.#render(asked, batch.views);
    rows.forEach((row, i) => (row.reason = reasons[i]!));
  }

  /** Renders images; without renderings, decodes them. Answers why each is bad, or null. */
  async #render(
    asked: readonly { sample: Sample; renderings: readonly Rendering[] }[], views: readonly Tensor[],
  ): Promise<(string | null)[]> {
    const images = asked.map(({ sample, renderings }) => ({ image: () => this.#input(sample), renderings }));
    const outcomes = await renderImages(this.pool, images, views, { exif: this.#options.exif });
    return outcomes.map((outcome) => ("reason" in outcome ? outcome.reason : null));
  }

  #input(sample: Sample): ImageInput | Promise<ImageInput> {
    return this.#cache ? this.#cachedImage(sample, this.#cache) : sample.image();
  }

  async #cachedImage(sample: Sample, cache: Map<number, DecodedImage>): Promise<DecodedImage> {
    const cached = cache.get(sample.id);
    if (cached) return cached;
    const image = await this.pool.decode(await givenImage(() => sample.image()), { exif: this.#options.exif });
    const bytes = image.data.length;
    if (bytes <= this.#cacheRoom && !cache.has(sample.id)) {
      this.#cacheRoom -= bytes;
      cache.set(sample.id, image);
    }
    return image;
  }

  #reject({ id, name }: Sample, reason: string): void {
    this.#bad.set(id, { index: id, name, reason });
    const { length } = this.source;
    if (this.#bad.size > this.#options.maxBad * length || this.#bad.size === length) {
      throw new TooManyBadImagesError(this.bad, length, this.#options.maxBad);
    }
  }
}

/** @throws {DataOptionError} where views cannot be given as bytes */
function requireBytes(recipes: readonly ViewRecipe[], augmentOn: string | undefined): void {
  if (augmentOn !== undefined) throw new DataOptionError(`dtype is uint8, but ${augmentOn} normalises the views it augments; give float32`);
  if (recipes.some(({ erasing }) => erasing)) throw new DataOptionError("dtype is uint8, but what is erased is overwritten after normalisation; give float32");
}

function timeout(milliseconds: number): Disposable & { over: Promise<void> } {
  let timer: NodeJS.Timeout;
  const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
  return { over, [Symbol.dispose]: () => clearTimeout(timer) };
}
