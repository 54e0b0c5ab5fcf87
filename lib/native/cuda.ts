import { createRequire } from "node:module";
import { addonPlace, native } from "../native.js";

/** The functions of the CUDA addon; see native/cuda/*.cc for each one's contract. */
export interface NativeCuda {
  // Graphs (graph.cc)
  beginGraph(): number;
  endGraph(graph: number): void;
  replayGraph(graph: number): void;
  destroyGraph(graph: number): void;
  // Process groups (nccl.cc)
  /** What the first addon makes an NCCL process group with. */
  ncclFactory(): unknown;
  ncclVersion(): string;
}

/** The CUDA addon is not built, or does not load; the message says which and what mends it. */
export class CudaAddonError extends Error {
  override readonly name = "CudaAddonError";
}

const require = createRequire(import.meta.url);
let loaded: NativeCuda | null = null;

/**
 * The second addon, for what needs CUDA's own types: graphs and NCCL. Everything else reaches a GPU without it.
 *
 * @throws {CudaAddonError} without a GPU that libtorch can use, or where the addon was not built because CUDA's headers were not found
 */
export function cudaAddon(): NativeCuda {
  if (loaded) return loaded;
  // It names symbols of libtorch_cuda, which only then are in this process.
  if (native.cudaDeviceCount() === 0) throw new CudaAddonError("libtorch sees no GPU here; see why with: npx moco doctor");
  const path = addonPlace.cuda;
  if (path === null) {
    const beside = addonPlace.source === "build" ? "was not built, as CUDA's headers were not found" : "is not installed";
    throw new CudaAddonError(`The CUDA addon ${beside}.\nBuild it with: npx moco setup --cuda`);
  }
  try {
    return (loaded = require(path) as NativeCuda);
  } catch (error) {
    const message = `Could not load ${path}: ${(error as Error).message}\nBuild it anew with: npx moco setup --rebuild`;
    throw new CudaAddonError(message, { cause: error });
  }
}
