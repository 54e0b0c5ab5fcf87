/** Images in, batches out: sources, the two-view pipeline of MoCo v3, and evaluation. */
export { drawCrop, drawView, jitterOperations, viewRecipes } from "./augmentation.js";
export type { Box, JitterParameters, RecipeChanges, ViewKey, ViewParameters, ViewRecipe } from "./augmentation.js";
export { decodeImage, sniffFormat, type ImageFormat } from "./decode.js";
export { maxPixels, type DecodedImage } from "./decodedImage.js";
export {
  BadImageError, DataOptionError, ImageFolderError, TooFewImagesError, TooManyBadImagesError, type BadImage,
} from "./errors.js";
export {
  evaluationBatches, loadImages, type EvaluationBatch, type EvaluationBatchOptions, type EvaluationOptions,
} from "./evaluationLoader.js";
export { ImageFolder, imageEndings, type ImageFolderOptions } from "./imageFolder.js";
export { ImagePool, imageNetNormalization, sharedImagePool } from "./imagePool.js";
export type { Normalization, RenderRequest, Rendering, Resizing } from "./imagePool.js";
export { readImage, requireImages, type ImageSource } from "./imageSource.js";
export { TwoViewLoader, type TwoViewBatch, type TwoViewOptions } from "./loader.js";
export { RandomStream, philox, type RandomKey } from "./random.js";
export { Sampler, type SamplerOptions } from "./sampler.js";
