/// <reference types="node" preserve="true" />
/** Tensors, autograd and every ATen operator, under their names in PyTorch (camelCase). */
export * from "./ops.generated.js";
// Written by hand below; these take precedence over generated operators of the same name.
export { backward, grad, noGrad, enableGrad, isGradEnabled, inferenceMode, autocast } from "./autograd.js";
export {
  setBackendFlags, deviceMemory, deviceProperties, resetPeakDeviceMemory, releaseDeviceMemory,
  type BackendFlags, type DeviceMemory, type DeviceProperties,
} from "./backend.js";
export { tensor, fromTypedArray, fromBytes, setData, storageOf, type TensorData, type TensorOptions } from "./creation.js";
export { observeOperators, op, type OperatorFunction, type OperatorObserver } from "./dispatch.js";
export {
  customFunction, CustomFunctionError,
  type CustomFunction, type FilledGradient, type FunctionContext, type InputGradients, type OutputGradients, type SavedTensors,
} from "./customFunction.js";
export { customKernel, type CompileKernel, type CustomKernel, type Kernels } from "./customKernel.js";
export { isDevice, type Device } from "./device.js";
export * from "./dtype.js";
export { TorchError, DeviceUnavailableError, DisposedTensorError } from "./errors.js";
export { gradcheck, gradgradcheck, GradcheckError, type Checked, type GradcheckOptions } from "./gradcheck.js";
export { recordGraph, recordingStream, type RecordedGraph } from "./graph.js";
export { compileKernel, type Kernel, type KernelArgument, type KernelExtent } from "./kernel.js";
export { KernelError, type KernelSource } from "./kernelCompiler.js";
export { linearGelu } from "./linearGelu.js";
export { Generator, manualSeed, getRngState, setRngState } from "./random.js";
export { setNumThreads, getNumThreads, retainFreedMemory, memory, cudaDeviceCount, version } from "./runtime.js";
export { camelCase } from "./schema.js";
export { scope, openScope, keep, Scope } from "./scope.js";
export { Stream, StreamEvent, currentStream, newStream, withStream } from "./stream.js";
export { Tensor, type NestedArray } from "./tensor.js";
