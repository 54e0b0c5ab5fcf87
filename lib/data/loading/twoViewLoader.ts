import type { Tensor } from "../../torch/index.js";
import { viewRecipes, type RecipeChanges } from "../augmentation/augmentation.js";
import type { ImageSource, ImageStream } from "../imageSource.js";
import { ViewLoader, type ViewBatch, type ViewLoaderOptions } from "./viewLoader.js";

/** Batches, views and threads of a {@link TwoViewLoader}. */
export interface TwoViewOptions extends ViewLoaderOptions {
  /** Smallest area of a crop as a fraction of the image's. Default 0.08. */
  cropMin?: number;
  /** Changes to upstream's recipe. */
  augmentation?: RecipeChanges;
}

/** One step's worth of images, two views of each. */
export type TwoViewBatch = ViewBatch<[Tensor, Tensor]>;

/**
 * Two differently augmented views of every image, as MoCo v3 contrasts them. See {@link ViewLoader}.
 *
 * @example
 * const loader = new TwoViewLoader(await ImageFolder.open("photos"), { batchSize: 256, imageSize: 224, seed: 0 });
 * for await (using batch of loader.epoch(0)) {
 *   const [x1, x2] = batch.views;
 *   ...
 * }
 * await loader.close();
 */
export class TwoViewLoader extends ViewLoader<[Tensor, Tensor]> {
  /**
   * @throws {TooFewImagesError} when a rank's share does not fill one batch.
   * @throws {DataOptionError} for an option outside its range.
   */
  constructor(source: ImageSource | ImageStream, { cropMin, augmentation, ...options }: TwoViewOptions) {
    super(source, viewRecipes(cropMin, augmentation), options);
  }
}
