import { stat } from "node:fs/promises";
import { isStream, labelOf, nameOf, openImages, type ImageSource, type ImageStream, type OpenImagesOptions } from "../../data/index.js";
import { isImageName } from "../../data/folder/imageEndings.js";

/**
 * Opens what a user names to embed: image files, or whatever {@link openImages} knows.
 *
 * @throws UnknownDataError and others of `openImages`
 */
export async function openImageInputs(inputs: readonly string[], options: OpenImagesOptions = {}): Promise<ImageSource | ImageStream> {
  const areFiles = await Promise.all(inputs.map(async (path) => isImageName(path) && (await stat(path).then((about) => about.isFile(), () => false))));
  if (areFiles.length === 0 || areFiles.includes(false)) return openImages(inputs, options);
  return { length: inputs.length, name: (index) => inputs[index]!, image: (index) => inputs[index]! };
}

/** Images from some point on, and their names in order. */
export interface RestOfImages {
  images: ImageSource | ImageStream;
  /** The names of the next `count` images, readable or not, of which batches have come. */
  takeNames(count: number): string[];
}

/**
 * The images from the `first` one on.
 *
 * @param onSkipped is called with the name of each one before
 */
export function imagesFrom(all: ImageSource | ImageStream, first: number, onSkipped: (name: string) => void): RestOfImages {
  const length = Math.max(0, all.length - first);
  if (!isStream(all)) {
    for (let index = 0; index < first; index++) onSkipped(nameOf(all, index));
    let next = first;
    return {
      images: {
        length,
        name: (index) => nameOf(all, first + index),
        label: (index) => labelOf(all, first + index),
        image: (index) => all.image(first + index),
      },
      takeNames: (count) => Array.from({ length: count }, () => nameOf(all, next++)),
    };
  }
  const names: string[] = [];
  const images: ImageStream = {
    length,
    async *stream(request) {
      let place = 0;
      for await (const image of all.stream(request)) {
        if (place++ >= first) {
          names.push(image.name);
          yield image;
          continue;
        }
        if (image.image instanceof Promise) image.image.catch(() => undefined); // nobody looks at it
        onSkipped(image.name);
      }
    },
  };
  return { images, takeNames: (count) => names.splice(0, count) };
}
