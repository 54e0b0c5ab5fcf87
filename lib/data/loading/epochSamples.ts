import type { ImageInput } from "../imageInput.js";
import { isStream, labelOf, nameOf, type ImageSource, type ImageStream, type StreamedImage, type StreamRequest } from "../imageSource.js";
import { Sampler, type EpochOrder } from "./sampler.js";

/** One image of an epoch. */
export interface Sample {
  /** Keys the random numbers and the list of bad images: the index in a source, a stream's own number. */
  id: number;
  name: string;
  /** Index into the data set's classes, or null. */
  label: number | null;
  /** Which of its copies in this epoch, from 0, where each comes several times. Default 0. */
  copy?: number;
  /** Asks the source for it; may throw or reject. */
  image(): ImageInput | Promise<ImageInput>;
}

/** A rank's images of an epoch, one after the other. `return` ends it at once, even while a `next` waits for a stream. */
export interface EpochSamples extends AsyncIterable<Sample> {
  next(): Promise<IteratorResult<Sample, void>>;
  return(): Promise<IteratorResult<Sample, void>>;
}

const finished = { value: undefined, done: true } as const;

/** How many images of a data set one rank sees in an epoch. */
export function samplesPerRank(source: ImageSource | ImageStream, worldSize: number): number {
  return Math.ceil(source.length / worldSize);
}

/**
 * A rank's images of an epoch in their order, and on from its beginning again, as `DistributedSampler` pads: it never ends by itself, but
 * for a stream that gives nothing.
 *
 * @param repeats how often each image of a source comes, one time after the other; a stream's come once
 */
export function epochSamples(source: ImageSource | ImageStream, request: StreamRequest, repeats = 1): EpochSamples {
  return isStream(source) ? new StreamSamples(source, request) : new SourceSamples(source, request, repeats);
}

class SourceSamples implements EpochSamples {
  readonly #order: Promise<EpochOrder>;
  #position = 0;
  #ended = false;

  constructor(private readonly source: ImageSource, { seed, epoch, rank, worldSize }: StreamRequest, repeats: number) {
    this.#order = new Sampler(source.length, { seed, rank, worldSize, repeats }).order(epoch);
    this.#order.catch(() => undefined); // seen by `next`
  }

  async next(): Promise<IteratorResult<Sample, void>> {
    const order = await this.#order;
    if (this.#ended) return finished;
    const { source } = this;
    const [index, copy] = [order.at(this.#position), order.copyAt(this.#position)];
    this.#position = (this.#position + 1) % order.length;
    return { value: { id: index, name: nameOf(source, index), label: labelOf(source, index), copy, image: () => source.image(index) }, done: false };
  }

  async return(): Promise<IteratorResult<Sample, void>> {
    this.#ended = true;
    return finished;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

class StreamSamples implements EpochSamples {
  #images: AsyncIterator<StreamedImage> | null = null;
  #given = 0;
  #ended = false;

  constructor(private readonly source: ImageStream, private readonly request: StreamRequest) {}

  async next(): Promise<IteratorResult<Sample, void>> {
    while (!this.#ended) {
      this.#images ??= this.source.stream(this.request)[Symbol.asyncIterator]();
      const { value, done } = await this.#images.next();
      if (this.#ended) break;
      if (!done) {
        this.#given++;
        const { id, name, label, image } = value;
        // Whoever asks for the image sees the rejection; one that nobody asks for is nobody's concern.
        if (image instanceof Promise) image.catch(() => undefined);
        return { value: { id, name, label, image: () => image }, done: false };
      }
      this.#images = null;
      if (this.#given === 0) break;
      this.#given = 0;
    }
    return finished;
  }

  async return(): Promise<IteratorResult<Sample, void>> {
    this.#ended = true;
    await this.#images?.return?.();
    return finished;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
