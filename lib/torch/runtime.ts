import { native } from "../native.js";

/** Threads that one operator may use. */
export function getNumThreads(): number {
  return native.getNumThreads();
}

/** Sets how many threads one operator may use, in this JavaScript thread. */
export function setNumThreads(count: number): void {
  if (!Number.isSafeInteger(count) || count < 1) throw new RangeError(`setNumThreads: expected a whole number from 1, got ${count}`);
  native.setNumThreads(count);
}

/** Live tensor handles of this thread, and the bytes of their distinct storages (what only a graph holds is not counted). */
export function memory(): { tensors: number; bytes: number } {
  return native.memory();
}

/** Number of CUDA devices that libtorch can use; 0 without its CUDA library or a driver. */
export function cudaDeviceCount(): number {
  return native.cudaDeviceCount();
}

/** Version of libtorch, and its own account of how it was built and which instruction set it uses. */
export function version(): { libtorch: string; config: string; capability: string } {
  const { built, config, capability } = native.versions();
  return { libtorch: built, config, capability };
}

/**
 * Lets the process keep memory that tensors gave back instead of returning it to the system at once. A training step frees and takes the same
 * large blocks again and again; handing them back costs a page fault for every 4 KiB, half of a small ViT's step. The process then stays at its
 * peak size, so servers leave this off. Does nothing where the C library has no such setting.
 */
export function retainFreedMemory(): void {
  native.retainFreedMemory();
}
