import { isStream, labelOf, nameOf, type ImageSource, type ImageStream, type StreamedImage, type StreamRequest } from "./imageSource.js";
import { RandomStream } from "./random.js";

/** Key of the random numbers, so that every run has the same subset of the same data. */
const key = { seed: 0, epoch: 0, index: 0, stream: 0x73756273 };

/**
 * A data set with only `count` of another's images, drawn at random, always the same ones, in the order that they had; the data set itself
 * where it has no more.
 *
 * @example
 * const some = randomSubset(await openImages("imagenet"), 50_000);
 */
export function randomSubset(source: ImageSource, count: number): ImageSource;
export function randomSubset(source: ImageSource | ImageStream, count: number): ImageSource | ImageStream;
export function randomSubset(source: ImageSource | ImageStream, count: number): ImageSource | ImageStream {
  if (source.length <= count) return source;
  const places = new RandomStream(key).permutation(source.length).slice(0, count).sort();
  return isStream(source) ? new StreamSubset(source, places) : new SourceSubset(source, places);
}

class SourceSubset implements ImageSource {
  constructor(private readonly source: ImageSource, private readonly places: Uint32Array) {}

  get length(): number {
    return this.places.length;
  }

  get classes(): readonly string[] | undefined {
    return this.source.classes;
  }

  image(index: number): ReturnType<ImageSource["image"]> {
    return this.source.image(this.places[index]!);
  }

  name(index: number): string {
    return nameOf(this.source, this.places[index]!);
  }

  label(index: number): number | null {
    return labelOf(this.source, this.places[index]!);
  }
}

/** Images by their places in the stream, which must be asked for in one piece: rank 0 of 1. */
class StreamSubset implements ImageStream {
  constructor(private readonly source: ImageStream, private readonly places: Uint32Array) {}

  get length(): number {
    return this.places.length;
  }

  get classes(): readonly string[] | undefined {
    return this.source.classes;
  }

  async *stream(request: StreamRequest): AsyncGenerator<StreamedImage, void, undefined> {
    let place = 0;
    let next = 0;
    for await (const image of this.source.stream(request)) {
      if (place++ !== this.places[next]) {
        if (image.image instanceof Promise) image.image.catch(() => undefined); // nobody will look at it
        continue;
      }
      yield image;
      if (++next === this.places.length) return;
    }
  }
}
