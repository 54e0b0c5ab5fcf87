import { native } from "../native.js";
import { parseDevice } from "./device.js";
import { dtypeCode, type DType } from "./dtype.js";
import { refusePromise } from "./synchronous.js";
import { Tensor } from "./tensor.js";

function withGradMode<T>(enabled: boolean, fn: () => T): T {
  const before = native.setGradEnabled(enabled);
  try {
    return refusePromise(fn(), promiseAdvice);
  } finally {
    native.setGradEnabled(before);
  }
}

const promiseAdvice = "a mode of the thread cannot span an await: make the function synchronous and await outside it.";

/** Runs `fn` without recording a graph. */
export function noGrad<T>(fn: () => T): T {
  return withGradMode(false, fn);
}

/** Runs `fn` with recording on, also inside `noGrad`. */
export function enableGrad<T>(fn: () => T): T {
  return withGradMode(true, fn);
}

/** Whether operators record what a backward pass needs. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled();
}

/** Runs `fn` without a graph, version counters and view tracking: faster than `noGrad`, and its tensors can never be part of a graph. */
export function inferenceMode<T>(fn: () => T): T {
  native.pushInferenceMode(true);
  try {
    return refusePromise(fn(), promiseAdvice);
  } finally {
    native.popInferenceMode();
  }
}

/** Adds gradients of several outputs to the leaves they were computed from, in one pass. */
export function backward(
  outputs: readonly Tensor[],
  gradients: readonly (Tensor | null)[] = [],
  options: { retainGraph?: boolean; createGraph?: boolean } = {},
): void {
  const { createGraph = false, retainGraph = createGraph } = options;
  native.backward(slots(outputs), slots(gradients), retainGraph, createGraph);
}

/**
 * Gradients of outputs with respect to inputs, without touching `grad`; null where an input was not used and `allowUnused` is given.
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: { gradOutputs?: readonly (Tensor | null)[]; retainGraph?: boolean; createGraph?: boolean; allowUnused?: boolean } = {},
): (Tensor | null)[] {
  const { gradOutputs = [], createGraph = false, retainGraph = createGraph, allowUnused = false } = options;
  const list = (value: Tensor | readonly Tensor[]): readonly Tensor[] => (value instanceof Tensor ? [value] : value);
  return native
    .grad(slots(list(outputs)), slots(list(inputs)), slots(gradOutputs), retainGraph, createGraph, allowUnused)
    .map((slot) => (slot < 0 ? null : new Tensor(slot)));
}

function slots(tensors: readonly (Tensor | null)[]): number[] {
  return tensors.map((tensor) => (tensor === null ? -1 : tensor.liveSlot("backward")));
}

/**
 * Runs `fn` with automatic mixed precision: matrix products and convolutions in `dtype`, what needs range in float32, as `torch.autocast`.
 * The weights' casts are reused until the outermost autocast ends.
 */
export function autocast<T>(options: { device?: string; dtype?: DType; enabled?: boolean }, fn: () => T): T {
  const { device = "cpu", dtype = device.startsWith("cuda") ? "float16" : "bfloat16", enabled = true } = options;
  const { type } = parseDevice(device);
  const [wasEnabled, wasDtype] = native.setAutocast(type, enabled, dtypeCode(dtype));
  native.enterAutocast();
  try {
    return refusePromise(fn(), promiseAdvice);
  } finally {
    native.leaveAutocast();
    native.setAutocast(type, wasEnabled, wasDtype);
  }
}
