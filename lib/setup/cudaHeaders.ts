import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Config } from "../config.js";
import { hasNvidiaDriver } from "./nvidiaDriver.js";
import type { LibtorchLocation } from "./torchFolder.js";

/** CUDA's headers for the addon that needs them, or why they cannot serve. */
export type CudaHeaders = { readonly includeDirs: readonly string[] } | { readonly lacking: string };

/** Folder of the cache for headers that were fetched without libraries. */
export const CUDA_HEADERS = "cuda-headers";

/** One file of each package that libtorch's CUDA headers include. */
const NEEDED = ["cuda_runtime_api.h", "crt/host_defines.h", "nv/target", "nccl.h"];

/**
 * Looks for CUDA's headers: in NVIDIA's packages beside libtorch, in the cache, in a toolkit.
 *
 * @param places for tests: folders in place of the system's own
 */
export function findCudaHeaders(config: Config, libtorch: LibtorchLocation, places: readonly string[] = systemFolders(config)): CudaHeaders {
  const packages = [join(dirname(libtorch.root), "nvidia"), join(config.cache, CUDA_HEADERS, "nvidia")].flatMap(includeFolders);
  const folders = [...packages, ...places];
  const found = NEEDED.map((file) => folders.find((folder) => existsSync(join(folder, file))));
  const lacking = NEEDED.filter((_, i) => found[i] === undefined);
  if (lacking.length > 0) return { lacking: `${lacking.join(", ")} not found beside libtorch, in ${join(config.cache, CUDA_HEADERS)}, or in a CUDA toolkit` };
  const wanted = /\+cu(\d+)\d$/.exec(libtorch.build)?.[1];
  const version = /^#define CUDART_VERSION\s+(\d+)\d{3}/m.exec(readFileSync(join(found[0]!, NEEDED[0]!), "utf8"))?.[1];
  if (wanted !== undefined && version !== undefined && version !== wanted) {
    return { lacking: `those in ${found[0]} are of CUDA ${version}, and libtorch ${libtorch.build} is for CUDA ${wanted}` };
  }
  return { includeDirs: [...new Set(found as string[])] };
}

/** Whether {@link findCudaHeaders} finds what the CUDA addon is built with. */
export function hasCudaHeaders(config: Config, libtorch: LibtorchLocation): boolean {
  return "includeDirs" in findCudaHeaders(config, libtorch);
}

/** Whether the CUDA addon is of use here. */
export function wantsCudaAddon(config: Config): boolean {
  return config.cuda ?? hasNvidiaDriver();
}

function systemFolders({ cudaHome }: Config): string[] {
  const homes = [...(cudaHome === null ? [] : [cudaHome]), "/usr/local/cuda"];
  // A toolkit for 13 keeps CCCL in a folder of its own, and nccl.h comes from the distribution.
  return [...homes.flatMap((home) => [join(home, "include"), join(home, "include", "cccl")]), "/usr/include"];
}

function includeFolders(nvidia: string): string[] {
  if (!existsSync(nvidia)) return [];
  const folders = readdirSync(nvidia).map((each) => join(nvidia, each, "include"));
  return folders.flatMap((each) => [each, join(each, "cccl")]).filter((each) => existsSync(each));
}
