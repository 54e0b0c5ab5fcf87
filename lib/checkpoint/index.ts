/// <reference types="node" preserve="true" />
/** PyTorch checkpoints, read without executing anything and written so that PyTorch opens them. */
export { readCheckpoint, type Checkpoint, type ReadOptions } from "./readCheckpoint.js";
export { writeCheckpoint, type WriteOptions } from "./writeCheckpoint.js";
export { BackgroundWriter, type BackgroundSave, type BackgroundWriterOptions } from "./background/backgroundWriter.js";
export { CheckpointError } from "./error.js";
export { defaultLimits, type CheckpointLimits } from "./limits.js";
export { OrderedDict, PythonComplex, PythonFloat, PythonGlobal, PythonObject, PythonTuple, TorchSize } from "./pythonValues.js";
export { addPrefix, hasPrefix, MODULE_PREFIX, selectPrefix, StateDictKeyError, stripPrefix, toStateDict } from "./keys.js";
export { writeDurably } from "./files/durableFile.js";
export { disposeTensors } from "./dispose.js";
export { recogniseCheckpoint, backboneOf, type CheckpointKind, type RecognisedCheckpoint, type WhichEncoder } from "./encoder/recognise.js";
export { inspectCheckpoint, type InspectedTensor, type Inspection } from "./inspect/inspectCheckpoint.js";
export { compareCheckpoints, type CompareOptions, type Comparison } from "./inspect/compareCheckpoints.js";
export { readEncoderFile, isModelFolder, type ReadEncoder, type ReadEncoderOptions } from "./encoder/readEncoder.js";
export { convertCheckpoint, type Conversion, type ConvertOptions } from "./encoder/convert.js";
export { OutputExistsError } from "./encoder/outputPath.js";
export { convertTargets, targetOf, type ConvertTarget } from "./encoder/targets.js";
export { ConvertError } from "./encoder/convertError.js";
export { specOf, type EncoderSpec } from "./encoder/encoderSpec.js";
export { encoderState, sizesOf } from "./encoder/backbone.js";
export { architectureNames, type EncoderSizes } from "./encoder/architecture.js";
export { ONNX_OPSET } from "./onnx/writeOnnx.js";
export { onnxLayers, onnxPrecisions, type OnnxLayer, type OnnxOptions, type OnnxPrecision } from "./onnx/onnxOptions.js";
