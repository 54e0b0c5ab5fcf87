import { DataOptionError } from "./errors.js";
import { isStream, labelOf, nameOf, type ImageSource, type ImageStream, type StreamedImage, type StreamRequest } from "./imageSource.js";
import { requireRank } from "./loading/sampler.js";

/**
 * One process's part of images that several judge by: every image is in one part, and none is there twice.
 *
 * @throws {DataOptionError} where there are fewer images than processes
 * @example
 * const mine = partOf(await openImages("val"), 0, 2); // images 0, 2, 4 ...
 */
export function partOf(source: ImageSource | ImageStream, rank: number, worldSize: number): ImageSource | ImageStream {
  requireRank(rank, worldSize);
  if (worldSize === 1) return source;
  if (source.length < worldSize) {
    throw new DataOptionError(`there are ${source.length} images to judge by, fewer than the ${worldSize} processes; use fewer processes, or more images`);
  }
  return isStream(source) ? new StreamPart(source, rank, worldSize) : new SourcePart(source, rank, worldSize);
}

class SourcePart implements ImageSource {
  readonly length: number;

  constructor(private readonly source: ImageSource, private readonly rank: number, private readonly worldSize: number) {
    this.length = Math.ceil((source.length - rank) / worldSize);
  }

  get classes(): readonly string[] | undefined {
    return this.source.classes;
  }

  image(index: number): ReturnType<ImageSource["image"]> {
    return this.source.image(this.#place(index));
  }

  name(index: number): string {
    return nameOf(this.source, this.#place(index));
  }

  label(index: number): number | null {
    return labelOf(this.source, this.#place(index));
  }

  #place(index: number): number {
    return this.rank + index * this.worldSize;
  }
}

class StreamPart implements ImageStream {
  readonly length: number;

  constructor(private readonly source: ImageStream, private readonly rank: number, private readonly worldSize: number) {
    this.length = Math.ceil(source.length / worldSize);
  }

  get classes(): readonly string[] | undefined {
    return this.source.classes;
  }

  stream({ seed, epoch }: StreamRequest): AsyncIterable<StreamedImage> {
    return this.source.stream({ seed, epoch, rank: this.rank, worldSize: this.worldSize });
  }
}
