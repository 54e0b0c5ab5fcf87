import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config.js";
import { install, withCacheLock } from "./fetchLibtorch.js";
import { readManifest } from "./findLibtorch.js";
import { NVRTC } from "./findNvrtc.js";
import { downloadWheels } from "./pipDownload.js";
import { LIBTORCH_VERSION, nvrtcWheels, wheelsFor } from "./wheels.js";

/**
 * Fetches NVRTC alone into the cache (90 MB): kernels are compiled with it on a machine without a GPU, such as one that tests. Does nothing
 * where it is there, or where libtorch is published without CUDA.
 *
 * @throws {SetupError} for no Python, no pip, no network, wrong hash, full disk.
 */
export async function fetchNvrtc(config: Config): Promise<void> {
  const folder = join(config.cache, NVRTC);
  const pinned = wheelsFor();
  const wheels = nvrtcWheels(pinned);
  if (wheels.length === 0) return;
  await withCacheLock(config, async () => {
    if (readManifest(folder)) return;
    const downloads = join(config.cache, "downloads");
    const files = await downloadWheels(config, wheels, pinned.tags, downloads);
    const manifest = { version: LIBTORCH_VERSION, cuda: true, archives: wheels.map(({ file, sha256 }) => ({ file, sha256 })) };
    await install(config, files, folder, manifest, (path) => /^nvidia\/\w+\/lib\/libnvrtc(-builtins)?\.so/.test(path));
    await rm(downloads, { recursive: true, force: true });
  });
}
