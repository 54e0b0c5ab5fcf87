/** What the options of trainings and evaluations have in common: their checks, the device, the precision. */
import * as torch from "../torch/index.js";

/** How a forward pass computes: in float32, or with autocast in bfloat16 or float16. */
export type Precision = "fp32" | "bf16" | "fp16";

/** An option of a training or an evaluation has a value that it cannot have. */
export class OptionError extends Error {
  override readonly name = "OptionError";
}

/**
 * The device that a user names, with its index; without a name the first GPU, where there is one.
 *
 * @throws OptionError for a device that is not there
 */
export function resolveDevice(wanted: string | undefined): string {
  const count = torch.cudaDeviceCount();
  if (wanted === undefined) return count > 0 ? "cuda:0" : "cpu";
  if (wanted === "cpu") return wanted;
  const match = /^cuda(?::(\d+))?$/.exec(wanted);
  if (match === null) throw new OptionError(`device is "${wanted}"; give cpu, cuda, or cuda:N for the N-th GPU`);
  const index = Number(match[1] ?? 0);
  if (index < count) return `cuda:${index}`;
  const found = count === 0 ? "libtorch sees no GPU here" : `libtorch sees ${count} GPU${count === 1 ? "" : "s"}, numbered from 0`;
  throw new OptionError(`device is "${wanted}", but ${found}; use cpu, or see what is missing with: moco doctor`);
}

/** @throws OptionError unless `value` is a whole number of at least `least` */
export function requireWhole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new OptionError(`${name} is ${value}; give a whole number of at least ${least}`);
}

/** The same of an option that may be left out. */
export function requireWholeIfGiven(name: string, value: number | null | undefined, least: number): void {
  if (value !== null && value !== undefined) requireWhole(name, value, least);
}

/** @throws OptionError unless `value` lies between `least` and `most`; `Number.MIN_VALUE` and `MAX_VALUE` stand for above 0 and any */
export function requireRange(name: string, value: number, least: number, most: number): void {
  if (value >= least && value <= most) return;
  const from = least === Number.MIN_VALUE ? "above 0" : `of at least ${least}`;
  const to = most === Number.MAX_VALUE ? "" : most === 1 ? " and at most 1" : " and below 1";
  throw new OptionError(`${name} is ${value}; give a number ${from}${to}`);
}

/** @throws OptionError unless `value` is one of `allowed` */
export function requireOneOf(name: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) throw new OptionError(`${name} is "${value}"; give ${allowed.join(" or ")}`);
}

/** @throws OptionError unless the device computes in this precision */
export function requirePrecision(precision: Precision, device: string): void {
  requireOneOf("precision", precision, ["fp32", "bf16", "fp16"]);
  if (precision !== "fp16" || device !== "cpu") return;
  throw new OptionError(
    "precision fp16 needs a GPU: CPUs have no fast float16, and its gradients are scaled on GPUs only; " +
      "use bf16, which needs no scaling, or fp32",
  );
}

/**
 * The fastest precision of a training, as measured on an H200 (docs/benchmarks.md): bfloat16 for plain ViTs, on GPUs that compute in it, and
 * float16 where there is batch normalisation over images, in ResNets and convolutional stems, which cuDNN has in float16 only. float32 on the
 * CPU, where a precision is a question of what is to be reproduced.
 *
 * @param arch name of an architecture; of others, float16
 * @param hasBfloat16 whether the GPU computes in bfloat16; asked of the driver unless given
 */
export function fastestPrecision(arch: string, device: string, hasBfloat16 = (): boolean => torch.deviceProperties(device).bfloat16): Precision {
  if (device === "cpu") return "fp32";
  const isPlainViT = arch.startsWith("vit_") && !arch.includes("conv");
  return isPlainViT && hasBfloat16() ? "bf16" : "fp16";
}

/** Runs a forward pass on a device in a precision. */
export function createAutocast({ precision, device }: { precision: Precision | "fp64"; device: string }): <T>(fn: () => T) => T {
  if (precision === "fp32" || precision === "fp64") return (fn) => fn();
  const dtype = precision === "bf16" ? "bfloat16" : "float16";
  return (fn) => torch.autocast({ device: device.split(":")[0], dtype }, fn);
}
