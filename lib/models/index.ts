/// <reference types="node" preserve="true" />
export {
  createModel, architectures, isArchitecture, registerArchitecture, UnknownArchitectureError, type Architecture, type ArchitectureBuilder,
  type CreateModelOptions,
} from "./registry.js";
export { Encoder } from "./encoder.js";
export { VisionTransformer, type VisionTransformerOptions } from "./vit.js";
export { ResNet, type ResNetOptions } from "./resnet.js";
export { PatchEmbed, type PatchStem } from "./patchEmbed.js";
export { ConvStem } from "./convStem.js";
export { Attention, Block, Mlp, type BlockOptions } from "./transformerBlock.js";
export { BasicBlock, Bottleneck } from "./residualBlock.js";
export { positionEmbedding2d } from "./positionEmbedding.js";
export { interpolatePositions } from "./positionInterpolation.js";
export { InputSizeError, ModelConfigError, type ImageSize } from "./errors.js";
export {
  encoderFromFile, encoderFromStateDict, freshEncoder, type EncoderFromFileOptions, type EncoderFromStateDictOptions,
} from "./fromStateDict.js";
