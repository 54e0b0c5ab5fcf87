/// <reference types="node" preserve="true" />
/** Images in, batches out: sources, the two-view pipeline of MoCo v3, and evaluation. */
export { cropAndFlip, drawView, fitView, jitterOperations, viewRecipes } from "./augmentation/augmentation.js";
export type { Box, CropDraw, JitterParameters, RecipeChanges, ViewDraw, ViewKey, ViewParameters, ViewRecipe } from "./augmentation/augmentation.js";
export { checkMixing, cutMixing, drawMixing, mixes, mixImages, type Mixing, type MixingKey, type MixingRecipe } from "./augmentation/mixing.js";
export type { Interpolation } from "./augmentation/interpolation.js";
export type { ImageOperation, OperationName } from "./augmentation/operations.js";
export { parseRandAugment, type RandAugment } from "./augmentation/randAugment.js";
export { fitErasing, type Erasing, type ErasingDraw, type ErasingMode, type RandomErasing } from "./augmentation/randomErasing.js";
export { supervisedRecipe, type SupervisedAugmentation } from "./augmentation/supervisedRecipe.js";
export { sniffFormat, type DecodeOptions, type ImageFormat } from "./decoding/decode.js";
export { maxPixels, type DecodedImage } from "./decoding/decodedImage.js";
export {
  BadImageError, DataOptionError, FileListError, ImageFolderError, LabelledDataError, TooFewImagesError, TooManyBadImagesError, UnknownDataError,
  type BadImage,
} from "./errors.js";
export {
  evaluationBatches, evaluationResize, loadImages, type EvaluationBatch, type EvaluationBatchOptions, type EvaluationOptions,
} from "./loading/evaluationLoader.js";
export { openImages, type OpenImagesOptions } from "./openImages.js";
export { openLabelledSplits, requireLabels, type LabelledSplits, type LabelledSplitsOptions } from "./labelledSplits.js";
export { partOf } from "./partOf.js";
export { randomSubset } from "./randomSubset.js";
export { ImageFolder, type ImageFolderOptions } from "./folder/imageFolder.js";
export { imageEndings } from "./folder/imageEndings.js";
export { FileList } from "./list/fileList.js";
export { WebDataset } from "./shards/webDataset.js";
export { ParquetImages } from "./shards/parquetImages.js";
export { ShardError } from "./shards/shardError.js";
export { Cifar } from "./datasets/cifar.js";
export { Flowers102 } from "./datasets/flowers102.js";
export { OxfordPets } from "./datasets/oxfordPets.js";
export { DeviceAugmentation, type DeviceAugmentationOptions } from "./augmentation/deviceAugmentation.js";
export { PixelNormalizer } from "./augmentation/pixelNormalizer.js";
export { ImagePool, imageNetNormalization, sharedImagePool } from "./imagePool.js";
export type { Normalization, RenderOptions, RenderOutcome, RenderRequest, Rendering, Resizing, StageSeconds } from "./imagePool.js";
export type { FileRange, ImageInput } from "./imageInput.js";
export {
  isStream, labelOf, nameOf, requireImages, type ImageSource, type ImageStream, type StreamedImage, type StreamRequest,
} from "./imageSource.js";
export { decodeImage, readImage } from "./decoding/readImage.js";
export { TwoViewLoader, type TwoViewBatch, type TwoViewOptions } from "./loading/twoViewLoader.js";
export { ViewLoader, type ViewBatch, type ViewLoaderOptions } from "./loading/viewLoader.js";
export { RandomStream, philox, type RandomKey } from "./random.js";
export { Sampler, type EpochOrder, type SamplerOptions } from "./loading/sampler.js";
