import { TwoViewLoader, type ImageSource, type ImageStream } from "../../data/index.js";
import type { Recipe } from "../pretrainOptions.js";

export interface LoadingSpeed {
  /** Images whose two views a thread makes in a second of a core's time. */
  imagesPerCoreSecond: number;
  /** Images a second with the threads that the recipe has, nothing else running. */
  imagesPerSecond: number;
  /** Images that were made ready for this. */
  images: number;
}

/**
 * Makes views of a sample of the user's own images, as training would, and times it.
 *
 * @param seconds after which no more are asked for
 */
export async function measureLoading(source: ImageSource | ImageStream, recipe: Recipe, seconds = 2): Promise<LoadingSpeed> {
  const batchSize = Math.max(1, Math.min(recipe.batchSize, source.length, 16 * recipe.workers));
  await using loader = new TwoViewLoader(source, {
    batchSize, imageSize: recipe.imageSize, cropMin: recipe.cropMin, augmentation: recipe.augmentation ?? {}, seed: recipe.seed ?? 0,
    threads: recipe.workers, exif: recipe.exif, maxBad: 1, augmentOn: recipe.augment === "gpu" ? recipe.device : undefined,
  });
  let images = 0;
  let counted: { at: number; cpu: NodeJS.CpuUsage; images: number } | null = null;
  const started = performance.now();
  for (let epoch = 0; ; epoch++) {
    for await (using batch of loader.epoch(epoch)) {
      images += batch.indices.length;
      // The first batch finds cold code and files; where there is no second, it counts all the same.
      counted ??= { at: performance.now(), cpu: process.cpuUsage(), images };
      if (performance.now() - started > 1000 * seconds) break;
    }
    if (performance.now() - started > 1000 * seconds || epoch >= 63) break;
  }
  const { at, cpu, images: before } = counted!;
  const few = images === before;
  const since = few ? started : at;
  const used = process.cpuUsage(few ? undefined : cpu);
  const made = few ? images : images - before;
  return {
    imagesPerSecond: (1000 * made) / (performance.now() - since),
    imagesPerCoreSecond: (1e6 * made) / (used.user + used.system),
    images,
  };
}
