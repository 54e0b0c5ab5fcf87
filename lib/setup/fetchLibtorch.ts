import { chmod, mkdir, mkdtemp, open, rename, rm, statfs } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Config } from "../config.js";
import { DiskFullError, SetupError, UnsupportedPlatformError, WAYS_OUT } from "./errors.js";
import { type CacheManifest, MANIFEST, readManifest } from "./findLibtorch.js";
import { withLock } from "./lock.mjs";
import { hasNvidiaDriver } from "./nvidiaDriver.js";
import { downloadWheels } from "./pipDownload.js";
import { say, startProgress } from "./progress.js";
import { inspectTorchFolder, type LibtorchLocation } from "./torchFolder.js";
import { listArchive, syncFolder, unpack } from "./unpack.js";
import { LIBTORCH_VERSION, type PlatformWheels, wheelsFor } from "./wheels.js";

/** What to fetch. */
export interface FetchOptions {
  /** With the CUDA libraries. Default: `MOCO_CUDA`, else where an NVIDIA driver is found. */
  readonly cuda?: boolean;
  /** Fetch again what is there already. */
  readonly force?: boolean;
  /** The pinned wheels; tests give their own. */
  readonly wheels?: PlatformWheels;
}

/**
 * Fetches libtorch into the cache with pip, unless it is there already. It is unpacked beside its place and renamed, so
 * that the cache never holds half a library; a second process waits for the first and takes what it fetched.
 *
 * @throws {SetupError} one of its kinds for: no Python, no pip, no network, wrong hash, full disk, no libtorch for this platform.
 */
export async function fetchLibtorch(config: Config, options: FetchOptions = {}): Promise<LibtorchLocation> {
  assertGlibc();
  const { tags, cpu, cuda: cudaWheels } = options.wheels ?? wheelsFor();
  const cuda = cudaWheels.length > 0 && (options.cuda ?? config.cuda ?? hasNvidiaDriver());
  const wheels = cuda ? [...cpu, ...cudaWheels] : cpu;
  const folder = join(config.cache, `libtorch-${LIBTORCH_VERSION}-${cuda ? "cuda" : "cpu"}`);
  await withCacheLock(config, async () => {
    if (!options.force && readManifest(folder)) return;
    await assertSpace(config, wheels.reduce((sum, wheel) => sum + wheel.bytes, 0) * (cuda ? 3.5 : 2.5));
    const downloads = join(config.cache, "downloads");
    const files = await downloadWheels(config, wheels, tags, downloads);
    const manifest = { version: LIBTORCH_VERSION, cuda, archives: wheels.map(({ file, sha256 }) => ({ file, sha256 })) };
    await install(config, files, folder, manifest, cuda ? isCudaFile : isCpuFile);
    await rm(downloads, { recursive: true, force: true });
  });
  return inspectTorchFolder(folder, "cache");
}

/** Runs `work` while no other process changes the cache, and clears what an interrupted one has left. */
export function withCacheLock<T>(config: Config, work: () => Promise<T>): Promise<T> {
  const onWait = (holder: string): void => say(config, `Waiting for the set-up that ${holder} has begun`);
  const locked = async (): Promise<T> => {
    const clear = (): Promise<void> => rm(join(config.cache, "unpacking"), { recursive: true, force: true });
    await clear();
    try {
      return await work();
    } catch (error) {
      throw explainDisk(error, config);
    } finally {
      await clear();
    }
  };
  return withLock(join(config.cache, "setup.lock"), locked, { onWait });
}

/**
 * Unpacks archives together into a folder of the cache, all of them or nothing; call it while holding the cache's lock.
 * `inspect` sees the unpacked files before they count, and may complete the manifest or throw.
 */
export async function install(
  config: Config,
  archives: readonly string[],
  folder: string,
  manifest: CacheManifest,
  wanted: (path: string) => boolean = () => true,
  inspect: (folder: string) => void = () => {},
): Promise<void> {
  let total = 0;
  for (const archive of archives) for (const { path, bytes } of await listArchive(archive)) if (wanted(path)) total += bytes;
  await assertSpace(config, total);
  const parent = join(config.cache, "unpacking");
  await mkdir(parent, { recursive: true });
  const temporary = await mkdtemp(join(parent, `${basename(folder)}-`));
  await chmod(temporary, 0o755); // a cache may be shared; mkdtemp makes private folders
  const progress = startProgress(config, `Unpacking ${basename(folder)}`, total, "bytes");
  let done = 0;
  const onBytes = (bytes: number): void => progress.update((done += bytes));
  try {
    for (const archive of archives) await unpack(archive, temporary, { wanted, onBytes });
  } finally {
    progress.end();
  }
  inspect(temporary);
  const file = await open(join(temporary, MANIFEST), "wx");
  await file.writeFile(`${JSON.stringify(manifest, null, 2)}\n`);
  await file.sync();
  await file.close();
  await syncFolder(temporary);
  await rm(folder, { recursive: true, force: true });
  await rename(temporary, folder);
  await syncFolder(config.cache);
}

/** Of the wheels' files, what the CPU library loads and the addon's build reads: half of the whole. */
export function isCpuFile(path: string): boolean {
  if (/^torch\/lib\/lib[^/]*$/.test(path)) return !/cuda|nvrtc|nvshmem|python|libtorch\.so|global_deps|libshm/.test(path);
  if (/^torch\/lib\/[^/]*\.(dll|lib)$/.test(path)) return !/python|shm/.test(path); // Windows
  return /^torch\/(include\/|version\.py$|\.dylibs\/)|^torch\.libs\/|\.dist-info\/|\/libcudart\.so\.\d+$|\/libcupti\.so\.\d+$/.test(path);
}

/** As {@link isCpuFile}, with all that the CUDA libraries load. */
export function isCudaFile(path: string): boolean {
  if (/^torch\/lib\/lib[^/]*$/.test(path)) return !/libtorch_python/.test(path);
  return /^torch\/(include\/|version\.py$)|^torch\.libs\/|\.dist-info\/|^nvidia\/.*\/(lib|include)\/(?!cccl\/)/.test(path);
}

function assertGlibc(): void {
  if (process.platform !== "linux") return;
  // The report looks up the names of all network peers otherwise, which can take seconds.
  const settings = process.report as { excludeNetwork?: boolean };
  const before = settings.excludeNetwork;
  settings.excludeNetwork = true;
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  settings.excludeNetwork = before;
  const version = report.header?.glibcVersionRuntime;
  const [major = 0, minor = 0] = (version ?? "0.0").split(".").map(Number);
  if (major > 2 || (major === 2 && minor >= 28)) return;
  throw new UnsupportedPlatformError(
    `libtorch ${LIBTORCH_VERSION} needs glibc ≥ 2.28; this system has ${version ?? "another C library"}. ` +
      `Use a newer distribution (Debian 10, Ubuntu 20.04, RHEL 8), or bring a libtorch that was built for it:\n${WAYS_OUT}`,
  );
}

/** @throws {DiskFullError} if the cache's disk has less than `bytes` free. */
async function assertSpace(config: Config, bytes: number): Promise<void> {
  await mkdir(config.cache, { recursive: true });
  const { bavail, bsize } = await statfs(config.cache);
  if (bavail * bsize >= bytes) return;
  throw new DiskFullError(
    `${config.cache} has ${gigabytes(bavail * bsize)} free, but ${gigabytes(bytes)} are needed. ` +
      "Free some space, or set MOCO_CACHE to a folder on a larger disk",
  );
}

function explainDisk(error: unknown, config: Config): unknown {
  if (error instanceof SetupError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new DiskFullError(`The disk of ${config.cache} is full (${message}). Free some space, or set MOCO_CACHE to a folder elsewhere`);
  }
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return new SetupError(`${config.cache} cannot be written (${message}). Set MOCO_CACHE to a folder that can be`);
  }
  return error;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
