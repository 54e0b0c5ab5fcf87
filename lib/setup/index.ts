import { type Config, readConfig } from "../config.js";
import { findAddon } from "./addonPlace.js";
import { buildAddon } from "./buildAddon.js";
import { LibtorchNotFoundError } from "./errors.js";
import { fetchLibtorch } from "./fetchLibtorch.js";
import { findLibtorch, type LibtorchLocation } from "./findLibtorch.js";

export { buildAddon, isAddonFresh } from "./buildAddon.js";
export { checkCudaAddon, type Check, checkDevices, checkJpeg, diagnose, type Diagnosis } from "./diagnose.js";
export * from "./errors.js";
export { hasCudaHeaders } from "./cudaHeaders.js";
export { fetchDemoImages } from "./demoImages.js";
export { fetchCudaHeaders } from "./fetchCudaHeaders.js";
export { fetchLibtorch, type FetchOptions } from "./fetchLibtorch.js";
export { fetchNvrtc } from "./fetchNvrtc.js";
export { findLibtorch, type LibtorchLocation } from "./findLibtorch.js";
export type { GpuTrial } from "./gpus.js";
export { installArchive } from "./installArchive.js";
export { packageRoot } from "./packageRoot.js";

/**
 * Makes sure that libtorch is there and an addon for it; fetches libtorch, and builds the addon where npm has not installed one that fits. A command that needs
 * libtorch awaits this before it imports anything from `lib/torch` or above. Takes milliseconds when all is up to date.
 *
 * @param options - `rebuild`: build the addon even if it is up to date
 * @throws {SetupError} naming what failed and what to do.
 * @example
 * await ensureReady();
 * const { pretrain } = await import("../train/pretrain.js");
 */
export async function ensureReady(config: Config = readConfig(), { rebuild = false } = {}): Promise<LibtorchLocation> {
  const libtorch = await findOrFetch(config);
  const installed = !rebuild && findAddon(libtorch)?.source === "package";
  if (!installed) await buildAddon(config, libtorch, { rebuild });
  return libtorch;
}

async function findOrFetch(config: Config): Promise<LibtorchLocation> {
  try {
    return findLibtorch(config);
  } catch (error) {
    // What the user has named is used or refused, never replaced.
    if (!(error instanceof LibtorchNotFoundError) || config.libtorch || config.usePytorch) throw error;
    return await fetchLibtorch(config);
  }
}
