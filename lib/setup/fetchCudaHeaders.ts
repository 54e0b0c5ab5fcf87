import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config.js";
import { CUDA_HEADERS } from "./cudaHeaders.js";
import { install, withCacheLock } from "./fetchLibtorch.js";
import { readManifest } from "./findLibtorch.js";
import { downloadWheels } from "./pipDownload.js";
import { headerWheels, LIBTORCH_VERSION, wheelsFor } from "./wheels.js";

/**
 * Fetches the headers that the CUDA addon is built with into the cache, without CUDA's libraries: 23 MB of the 200 that are downloaded. Does
 * nothing where they are there, or where libtorch is published without CUDA.
 *
 * @throws {SetupError} for no Python, no pip, no network, wrong hash, full disk.
 */
export async function fetchCudaHeaders(config: Config): Promise<void> {
  const folder = join(config.cache, CUDA_HEADERS);
  const pinned = wheelsFor();
  const wheels = headerWheels(pinned);
  if (pinned.cuda.length === 0) return;
  await withCacheLock(config, async () => {
    if (readManifest(folder)) return;
    const downloads = join(config.cache, "downloads");
    const files = await downloadWheels(config, wheels, pinned.tags, downloads);
    const manifest = { version: LIBTORCH_VERSION, cuda: true, archives: wheels.map(({ file, sha256 }) => ({ file, sha256 })) };
    await install(config, files, folder, manifest, (path) => /^nvidia\/\w+\/include\/(?!cccl\/)/.test(path));
    await rm(downloads, { recursive: true, force: true });
  });
}
