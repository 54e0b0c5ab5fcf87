import { native } from "../native.js";
import { deviceProperties } from "./backend.js";
import { compileForArchitecture, findKernelCompiler, KernelError, type KernelCompiler, type KernelSource } from "./kernelCompiler.js";
import { Tensor } from "./tensor.js";

/** An argument of a kernel: a tensor's memory, or a number of the type that the kernel has there. */
export type KernelArgument = Tensor | { int32: number } | { int64: number } | { float32: number } | { float64: number };

/** How many threads run a kernel. */
export interface KernelExtent {
  /** Blocks: x, or x, y and z. */
  grid: number | readonly [number, number, number];
  /** Threads of a block, likewise. */
  block: number | readonly [number, number, number];
  /** Shared memory of a block that the kernel does not declare itself. Default 0. */
  sharedBytes?: number;
}

/** The compiler, once it was looked for. */
let compiler: KernelCompiler | null | undefined;

/**
 * A CUDA kernel of one's own, compiled at run time with NVRTC: no `nvcc` is needed. Compiled code is kept in the cache's folder, so each
 * kernel is compiled once on a machine.
 *
 * The kernel belongs to the GPU `device`. Where the source has several, `entry` is the function that is meant; by default `name` is.
 *
 * @throws {KernelError} with the compiler's log for a source with errors; without NVRTC. {DeviceUnavailableError} without the GPU
 * @example
 * using twice = torch.compileKernel({
 *   name: "twice", device: "cuda:0",
 *   source: `extern "C" __global__ void twice(float* x, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] *= 2; }`,
 * });
 * twice.launch({ grid: Math.ceil(n / 256), block: 256 }, x, { int32: n });
 */
export function compileKernel({ device, entry, ...source }: KernelSource & { device: string; entry?: string }): Kernel {
  const { index, capability } = deviceProperties(device);
  compiler ??= findKernelCompiler();
  if (compiler === null) {
    throw new KernelError(`kernel ${source.name}: NVRTC (libnvrtc) was not found beside libtorch; bring CUDA's libraries with: npx moco setup --cuda`);
  }
  const { image } = compileForArchitecture(source, Math.round(capability * 10), compiler);
  return new Kernel(entry ?? source.name, `cuda:${index}`, native.loadKernel(image, entry ?? source.name, index));
}

/** A kernel on a GPU; see {@link compileKernel}. */
export class Kernel {
  #handle: unknown;

  /** Internal: see {@link compileKernel}. */
  constructor(readonly name: string, readonly device: string, handle: unknown) {
    this.#handle = handle;
  }

  /**
   * Puts a launch into the device's current stream, in order with operators. Autograd does not see it; `customKernel` gives it a backward.
   *
   * @throws {KernelError} for a tensor of another device or one that is not contiguous, and for a launch that the driver refuses
   */
  launch({ grid, block, sharedBytes = 0 }: KernelExtent, ...args: readonly KernelArgument[]): void {
    if (this.#handle === null) throw new KernelError(`kernel ${this.name}: it was disposed of; compile it again with compileKernel()`);
    const kinds: string[] = [];
    const values: number[] = [];
    args.forEach((argument, i) => {
      if (argument instanceof Tensor) {
        this.#requireFit(argument, i);
        kinds.push("tensor");
        values.push(argument.liveSlot(this.name));
      } else {
        const [kind, value] = Object.entries(argument)[0] as [string, number];
        kinds.push(kind);
        values.push(value);
      }
    });
    try {
      native.launchKernel(this.#handle, [...three(grid), ...three(block)], sharedBytes, kinds, values);
    } catch (error) {
      throw new KernelError(`kernel ${this.name}: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Unloads it; what was launched goes on. Calling it again does nothing. */
  dispose(): void {
    if (this.#handle !== null) native.unloadKernel(this.#handle);
    this.#handle = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #requireFit(tensor: Tensor, place: number): void {
    if (tensor.device !== this.device) {
      throw new KernelError(`kernel ${this.name}: argument ${place} is on ${tensor.device}, and the kernel on ${this.device}; move it with to()`);
    }
    if (!native.isContiguous(tensor.liveSlot(this.name))) {
      throw new KernelError(`kernel ${this.name}: argument ${place} is not contiguous, and a kernel sees memory only; give contiguous()`);
    }
  }
}

function three(size: number | readonly [number, number, number]): readonly number[] {
  return typeof size === "number" ? [size, 1, 1] : size;
}
