import { basename, join, resolve } from "node:path";
import type { Config } from "../config.js";
import { ArchiveError, HashMismatchError } from "./errors.js";
import { install, isCpuFile, isCudaFile, withCacheLock } from "./fetchLibtorch.js";
import { cachedLibtorch } from "./findLibtorch.js";
import { sha256Of } from "./pipDownload.js";
import { say } from "./progress.js";
import { inspectTorchFolder, libraryFile, type LibtorchLocation } from "./torchFolder.js";
import { listArchive } from "./unpack.js";
import { pinnedWheel } from "./wheels.js";

/**
 * Installs libtorch from files brought by hand: a libtorch zip, or a torch wheel with the NVIDIA wheels that it loads.
 * Needs no network and no Python. A file that bears a pinned wheel's name must have its hash; others are checked by CRC.
 *
 * @returns the libtorch of the cache that is used from now on
 * @throws {ArchiveError | HashMismatchError | DiskFullError}
 */
export async function installArchive(config: Config, files: readonly string[]): Promise<LibtorchLocation> {
  const archives = files.map((file) => resolve(file));
  const paths = (await Promise.all(archives.map(listArchive))).flat().map(({ path }) => path);
  // Named as this platform names it: one that was made for another is refused before it is unpacked.
  const library = `lib/${libraryFile("torch_cpu")}`;
  if (!paths.some((path) => path.endsWith(`/${library}`))) {
    throw new ArchiveError(
      `${files.join(", ")}: no libtorch for ${process.platform} inside (no ${library}). ` +
        "Give a libtorch zip from pytorch.org, or a torch wheel together with its NVIDIA wheels: " +
        "moco setup --archive torch.whl --archive nvidia.whl",
    );
  }
  const has = (pattern: RegExp): boolean => paths.some((path) => pattern.test(path));
  const isZip = has(/^libtorch\//);
  const hasCuda = has(/\/libtorch_cuda\.so$/);
  // A wheel's CUDA libraries are of use only with all of NVIDIA's; a libtorch zip has them inside.
  const cuda = hasCuda && (isZip || has(/\/libcublas\.so/));
  if (hasCuda && !isZip && !has(/\/libcudart[^/]*\.so/)) {
    throw new ArchiveError(
      `${files.join(", ")}: a torch wheel with CUDA loads libcudart and libcupti, which come in wheels of their own. Give them too: ` +
        "moco setup --archive torch.whl --archive nvidia_cuda_runtime.whl --archive nvidia_cuda_cupti.whl",
    );
  }
  const hashes = await Promise.all(archives.map(verify));
  return withCacheLock(config, async () => {
    const named = archives.map((archive, index) => ({ file: basename(archive), sha256: hashes[index]! }));
    const [first] = [...hashes].sort();
    // The version is known only once it is unpacked; the hash makes a name of its own until the manifest is written.
    const folder = join(config.cache, `libtorch-archive-${first!.slice(0, 12)}`);
    const manifest = { version: "", cuda, archives: named };
    await install(config, archives, folder, manifest, isZip ? undefined : cuda ? isCudaFile : isCpuFile, (unpacked) => {
      manifest.version = inspectTorchFolder(unpacked, "cache").version;
    });
    const installed = inspectTorchFolder(folder, "cache");
    const used = cachedLibtorch(config) ?? installed;
    if (used.root !== installed.root) {
      say(config, `The cache also holds libtorch ${used.version}, which is used first. For the archive's: LIBTORCH=${installed.root}`);
    }
    return used;
  });
}

async function verify(archive: string): Promise<string> {
  const found = await sha256Of(archive);
  const pinned = pinnedWheel(basename(archive));
  if (pinned && pinned.sha256 !== found) {
    throw new HashMismatchError(`${archive} is not the published file: its SHA-256 is ${found}, expected ${pinned.sha256}. Get it again`);
  }
  return found;
}
