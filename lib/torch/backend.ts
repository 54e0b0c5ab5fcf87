import { cpus } from "node:os";
import { native } from "../native.js";
import { parseDevice } from "./device.js";
import { DeviceUnavailableError } from "./errors.js";

/** How libtorch chooses kernels; what is left out stays as it is. */
export interface BackendFlags {
  /** Let matrix products and convolutions of float32 on a GPU round their inputs to TF32's 10 bits. libtorch's default: convolutions only. */
  tf32?: boolean;
  /** The same of matrix products alone. libtorch's default: off. */
  tf32Products?: boolean;
  /** Let cuDNN try its algorithms for each new size of a convolution and keep the fastest. Which one wins may differ from run to run. */
  cudnnBenchmark?: boolean;
  /**
   * Only kernels that give the same bits each time; an operator that has none throws. cuBLAS keeps its part of it where the environment has
   * `CUBLAS_WORKSPACE_CONFIG=:4096:8` before the first matrix product on a GPU.
   */
  deterministic?: boolean;
  /** Kernels that scaled dot-product attention may take on a GPU; all by default. */
  flashAttention?: boolean;
  memoryEfficientAttention?: boolean;
  cudnnAttention?: boolean;
  /**
   * `linear` of float32 on the CPU by oneDNN in place of MKL, the same up to rounding. Default: where the processor is AMD's and has AVX-512, for
   * which MKL has no kernels there, so that it is half as fast (110 against 240 GFLOP/s of a core).
   */
  oneDnnLinear?: boolean;
}

/** Sets how libtorch chooses kernels, for the whole process. */
export function setBackendFlags(flags: BackendFlags): void {
  for (const [name, on] of Object.entries(flags)) if (on !== undefined) native.setBackendFlag(name, on as boolean);
}

/** By what the processor is, not by a measurement: two runs of one seed have the same bits. Internal. */
export const oneDnnLinearDefault = native.versions().capability === "AVX512" && cpus()[0]?.model.includes("AMD") === true;

// A worker thread that loads the library later leaves alone what was chosen before.
native.setBackendFlag("oneDnnLinearDefault", oneDnnLinearDefault);

/** Memory of a device in bytes: in tensors, and held by libtorch for them, each now and at most since {@link resetPeakDeviceMemory}. */
export interface DeviceMemory {
  allocated: number;
  peakAllocated: number;
  reserved: number;
  peakReserved: number;
}

/**
 * The memory that libtorch holds on a GPU.
 *
 * @throws RangeError for the CPU, whose memory is the process's: see `memory()`
 */
export function deviceMemory(device: string): DeviceMemory {
  requireOwnMemory("deviceMemory", device);
  const [allocated, peakAllocated, reserved, peakReserved] = native.deviceMemory(device) as [number, number, number, number];
  return { allocated, peakAllocated, reserved, peakReserved };
}

/** Lets the peaks of {@link deviceMemory} start again from what is held now. */
export function resetPeakDeviceMemory(device: string): void {
  requireOwnMemory("resetPeakDeviceMemory", device);
  native.resetPeakDeviceMemory(device);
}

/** Gives memory that no tensor of a GPU uses back to the driver, for other processes. */
export function releaseDeviceMemory(device: string): void {
  requireOwnMemory("releaseDeviceMemory", device);
  native.releaseDeviceMemory(device);
}

/** What a GPU is. */
export interface DeviceProperties {
  /** Among those that libtorch sees. */
  index: number;
  name: string;
  memoryBytes: number;
  /** Compute capability: 9 for Hopper, 8.6 for some of Ampere. */
  capability: number;
  multiprocessors: number;
  /** The most shared memory that a block can have. */
  sharedBytes: number;
  /** Of its second-level cache. */
  cacheBytes: number;
  /** Whether it computes in bfloat16 itself, as GPUs do from Ampere on. */
  bfloat16: boolean;
}

/**
 * What the driver tells of a GPU.
 *
 * @param device `"cuda"` for the first one
 * @throws {DeviceUnavailableError} without it
 */
export function deviceProperties(device: string): DeviceProperties {
  const { type, index } = parseDevice(device);
  const count = native.cudaDeviceCount();
  if (type !== 1) throw new TypeError(`deviceProperties: ${device} is no GPU of NVIDIA's; give "cuda" or "cuda:N"`);
  const number = Math.max(0, index);
  if (number >= count) throw new DeviceUnavailableError(device, "cuda", count);
  const [name, memoryBytes, major, minor, multiprocessors, sharedBytes, cacheBytes] =
    native.deviceProperties(number) as [string, number, number, number, number, number, number];
  return { index: number, name, memoryBytes, capability: major + minor / 10, multiprocessors, sharedBytes, cacheBytes, bfloat16: major >= 8 };
}

function requireOwnMemory(operator: string, device: string): void {
  if (parseDevice(device).type === 0) throw new RangeError(`${operator}: the CPU's memory is the process's own; see memory()`);
}
