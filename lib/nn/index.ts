/// <reference types="node" preserve="true" />
export { Module, type AnyModule } from "./module.js";
export { StateDictError, type LoadResult, type StateDict } from "./stateDict.js";
export { Linear } from "./linear.js";
export { Conv2d, type Conv2dOptions } from "./conv2d.js";
export {
  BatchNorm, BatchNorm1d, BatchNorm2d, BatchNormError, type BatchNormOptions, type BatchNormState, type BatchNormSynchronizer,
} from "./batchNorm.js";
export { LayerNorm } from "./layerNorm.js";
export { GELU, Identity, ReLU } from "./activation.js";
export { dropPath } from "./dropPath.js";
export { MaxPool2d } from "./pooling.js";
export { Sequential } from "./sequential.js";
export * as init from "./init.js";
