import { dirname, join } from "node:path";
import type { Config } from "../config.js";
import { namesIn } from "./namesIn.js";
import type { LibtorchLocation } from "./torchFolder.js";

/** Folder of the cache for a compiler that was fetched without the rest of CUDA. */
export const NVRTC = "nvrtc";

/**
 * NVIDIA's run-time compiler, `libnvrtc`: beside libtorch in NVIDIA's packages, in libtorch's own folder, in the cache, or in a toolkit.
 *
 * @param places for tests: folders in place of a toolkit's
 * @returns the library's file, or null where it is not found
 */
export function findNvrtc(config: Config, libtorch: LibtorchLocation, places: readonly string[] = toolkits(config)): string | null {
  const packages = [join(dirname(libtorch.root), "nvidia"), join(config.cache, NVRTC, "nvidia")].flatMap(libraryFolders);
  for (const folder of [...packages, libtorch.libDir, ...places]) {
    const found = namesIn(folder).filter((file) => /^libnvrtc\.so\.\d+$|^libnvrtc-[0-9a-f]+\.so\.\d+$/.test(file));
    if (found[0] !== undefined) return join(folder, found[0]);
  }
  return null;
}

function toolkits({ cudaHome }: Config): string[] {
  return [...(cudaHome === null ? [] : [cudaHome]), "/usr/local/cuda"].map((home) => join(home, "lib64"));
}

function libraryFolders(nvidia: string): string[] {
  return namesIn(nvidia).map((each) => join(nvidia, each, "lib"));
}
