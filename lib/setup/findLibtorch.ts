import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, readConfig } from "../config.js";
import { LibtorchNotFoundError, SetupError, WAYS_OUT } from "./errors.js";
import { namesIn } from "./namesIn.js";
import { hasNvidiaDriver } from "./nvidiaDriver.js";
import { findPython, findPythonTorch } from "./python.js";
import { inspectTorchFolder, type LibtorchLocation } from "./torchFolder.js";
import { LIBTORCH_VERSION } from "./wheels.js";

export type { LibtorchLocation } from "./torchFolder.js";

/** Written last into a folder of the cache: what has it is complete. */
export const MANIFEST = "moco.json";

/** What a folder of the cache holds. */
export interface CacheManifest {
  readonly version: string;
  readonly cuda: boolean;
  /** The files that it was unpacked from. */
  readonly archives: readonly { readonly file: string; readonly sha256: string }[];
}

/**
 * Finds libtorch: the folder that `LIBTORCH` names, else Python's torch if `LIBTORCH_USE_PYTORCH=1`, else the cache. What
 * the user has named must be right: a wrong one is an error, not a reason to use another.
 *
 * @throws {LibtorchNotFoundError} naming every place tried and the ways out.
 * @example
 * const { version, root } = findLibtorch();
 */
export function findLibtorch(config: Config = readConfig()): LibtorchLocation {
  const tried: string[] = [];
  if (config.libtorch) return named(tried, `LIBTORCH=${config.libtorch}`, () => inspectTorchFolder(config.libtorch!, "LIBTORCH"));
  tried.push("  LIBTORCH: not set");
  if (config.usePytorch) {
    return named(tried, "LIBTORCH_USE_PYTORCH=1", () => {
      const python = findPython(config);
      const folder = findPythonTorch(python);
      if (folder) return inspectTorchFolder(folder, "python");
      throw new SetupError(`${python.command} (Python ${python.version}) has no torch: ${python.command} -m pip install torch`);
    });
  }
  tried.push("  LIBTORCH_USE_PYTORCH: not set");
  const cached = cachedLibtorch(config);
  if (cached) return cached;
  tried.push(`  cache: no libtorch in ${config.cache}`);
  throw notFound(tried, "`moco setup` fetches it. Without a network, there are three ways out:");
}

/** The libtorch of the cache, `null` if there is none. */
export function cachedLibtorch(config: Config): LibtorchLocation | null {
  const wantCuda = config.cuda ?? hasNvidiaDriver();
  const installed = namesIn(config.cache)
    .filter((name) => name.startsWith("libtorch-"))
    .flatMap((name) => {
      const manifest = readManifest(join(config.cache, name));
      return manifest ? [{ folder: join(config.cache, name), ...manifest }] : [];
    })
    // The version that this package was made for comes first, then the newest; with CUDA only where it is of use.
    .sort((a, b) => rank(b) - rank(a) || b.version.localeCompare(a.version, undefined, { numeric: true }));
  function rank(each: CacheManifest): number {
    return (each.version === LIBTORCH_VERSION ? 2 : 0) + (each.cuda === wantCuda ? 1 : 0);
  }
  return installed[0] ? inspectTorchFolder(installed[0].folder, "cache") : null;
}

/** The manifest of a complete folder of the cache. */
export function readManifest(folder: string): CacheManifest | null {
  const file = join(folder, MANIFEST);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as CacheManifest) : null;
}

function named(tried: string[], what: string, find: () => LibtorchLocation): LibtorchLocation {
  try {
    return find();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    tried.push(`  ${what}: ${error.message.split("\n")[0]}`);
    throw notFound(tried, "Correct or unset it. There are three ways to bring libtorch:");
  }
}

function notFound(tried: string[], advice: string): LibtorchNotFoundError {
  return new LibtorchNotFoundError(`libtorch was not found. Tried:\n${tried.join("\n")}\n${advice}\n${WAYS_OUT}`);
}
