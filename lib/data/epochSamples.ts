import type { ImageInput } from "./imageInput.js";
import { isStream, nameOf, type ImageSource, type ImageStream, type StreamRequest } from "./imageSource.js";
import { Sampler } from "./sampler.js";

/** One image of an epoch. */
export interface Sample {
  /** Keys the random numbers and the list of bad images: the index in a source, a stream's own number. */
  id: number;
  name: string;
  /** Asks the source for it; may throw or reject. */
  image(): ImageInput | Promise<ImageInput>;
}

/** How many images of a data set one rank sees in an epoch. */
export function samplesPerRank(source: ImageSource | ImageStream, worldSize: number): number {
  return Math.ceil(source.length / worldSize);
}

/**
 * A rank's images of an epoch in their order, and on from its beginning again, as `DistributedSampler` pads: it never ends, but for a
 * stream that gives nothing.
 */
export async function* epochSamples(source: ImageSource | ImageStream, request: StreamRequest): AsyncGenerator<Sample, void, undefined> {
  if (isStream(source)) {
    for (;;) {
      let given = 0;
      for await (const { id, name, image } of source.stream(request)) {
        given++;
        // Whoever asks for the image sees the rejection; one that nobody asks for is nobody's concern.
        if (image instanceof Promise) image.catch(() => undefined);
        yield { id, name, image: () => image };
      }
      if (given === 0) return;
    }
  }
  const { seed, epoch, rank, worldSize } = request;
  const order = await new Sampler(source.length, { seed, rank, worldSize }).order(epoch);
  for (let position = 0; ; position = (position + 1) % order.length) {
    const index = order.at(position);
    yield { id: index, name: nameOf(source, index), image: () => source.image(index) };
  }
}
