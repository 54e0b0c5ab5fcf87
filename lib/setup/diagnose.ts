import { accessSync, constants, existsSync, statSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { type Config, readConfig } from "../config.js";
import { type AddonPlace, buildFolder, findAddon } from "./addonPlace.js";
import { isAddonFresh, programVersion } from "./buildAddon.js";
import { findCudaHeaders, wantsCudaAddon } from "./cudaHeaders.js";
import { SetupError } from "./errors.js";
import { findNvrtc } from "./findNvrtc.js";
import { findLibtorch, type LibtorchLocation } from "./findLibtorch.js";
import { checkGpus, lookForGpus, type GpuTrial } from "./gpus.js";
import { installCommand } from "./installCommand.js";
import { whyNoPrebuilt } from "./prebuilt.js";
import { findPython } from "./python.js";

/** One thing that was looked at. */
export interface Check {
  readonly name: string;
  /** `optional`: missing, but nothing needs it as things are. */
  readonly status: "ok" | "missing" | "optional";
  /** What was found, or what is wrong. */
  readonly found: string;
  /** The command that mends it. */
  readonly fix?: string;
}

/** What `moco doctor` prints. */
export interface Diagnosis {
  /** Whether nothing that is needed is missing. */
  readonly ready: boolean;
  readonly checks: Check[];
}

/** Looks at everything that the package needs, without changing or loading anything. */
export function diagnose(config: Config = readConfig()): Diagnosis {
  const libtorch = lookForLibtorch(config);
  const location = "root" in libtorch ? libtorch : null;
  const addon = location === null ? null : findAddon(location);
  const ready = addon !== null && (addon.source === "package" || isAddonFresh(location!));
  const checks = [
    ok("node", process.versions.node), // an older one does not come this far: see `tooOld`
    checkCache(config, location !== null),
    location ? ok("libtorch", `${location.build} at ${location.root} (${describeSource(location)})`) : (libtorch as Check),
    checkAddon(location, ready ? addon : null),
    checkDevices(config),
    // npm brings it to machines without a GPU too.
    ...(location && (wantsCudaAddon(config) || (addon?.source === "build" && addon.cuda)) ? [checkCudaAddon(config, location), checkKernelCompiler(config, location)] : []),
    checkPython(config, location !== null),
    checkTool("compiler", ["c++", "g++", "clang++"], ready),
    checkTool("cmake", ["cmake"], ready),
  ];
  return { ready: checks.every((each) => each.status !== "missing"), checks };
}

function ok(name: string, found: string): Check {
  return { name, status: "ok", found };
}

function lookForLibtorch(config: Config): LibtorchLocation | Check {
  try {
    return findLibtorch(config);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    const wrong = config.libtorch ? "unset LIBTORCH" : config.usePytorch ? "python3 -m pip install torch==2.11.0" : "npx moco setup";
    return { name: "libtorch", status: "missing", found: placesTried(error), fix: wrong };
  }
}

function describeSource(location: LibtorchLocation): string {
  if (location.source === "LIBTORCH") return "named by LIBTORCH";
  return location.source === "python" ? "Python's, by LIBTORCH_USE_PYTORCH" : "from the cache";
}

function checkAddon(location: LibtorchLocation | null, addon: AddonPlace | null): Check {
  const file = join(addon?.folder ?? buildFolder, "moco.node");
  if (addon !== null) return ok("addon", `${file}, ${addon.source === "build" ? "built here" : "installed by npm"} for libtorch ${location!.version}`);
  const packaged = location === null ? "" : `; ${whyNoPrebuilt(location)}`;
  const found = `${existsSync(file) ? `${file} was built from other sources or for another libtorch` : "not built"}${packaged}`;
  return { name: "addon", status: "missing", found, fix: "npx moco setup" };
}

/**
 * The addon for CUDA graphs and NCCL.
 *
 * @param trial NCCL's version or why the addon does not load, once that was tried
 */
export function checkCudaAddon(config: Config, location: LibtorchLocation, trial: { nccl: string } | { failure: string } | null = null): Check {
  const without = "without CUDA graphs and NCCL";
  const file = findAddon(location)?.cuda;
  if (file) {
    if (trial === null || "nccl" in trial) return ok("cuda addon", `${file}${trial ? `, NCCL ${trial.nccl}` : ""}`);
    return { name: "cuda addon", status: "optional", found: `${without}: ${trial.failure}`, fix: "npx moco setup --rebuild" };
  }
  const headers = findCudaHeaders(config, location);
  const found = `${without}: not built${"lacking" in headers ? `, as CUDA's headers cannot be used: ${headers.lacking}` : ""}`;
  return { name: "cuda addon", status: "optional", found, fix: "npx moco setup --cuda" };
}

/** The compiler of kernels of one's own. */
export function checkKernelCompiler(config: Config, location: LibtorchLocation): Check {
  const nvrtc = findNvrtc(config, location);
  if (nvrtc !== null) return ok("kernel compiler", nvrtc);
  return { name: "kernel compiler", status: "optional", found: "NVRTC was not found beside libtorch: no kernels of one's own", fix: "npx moco setup --cuda" };
}

/**
 * What decodes JPEGs: libjpeg-turbo in the addon, or, where it was not found when the addon was built, sharp.
 *
 * @param version - what the addon says: "libjpeg-turbo 2.1.5", or "" without it
 */
export function checkJpeg(version: string): Check {
  if (version) return ok("jpeg", `${version}, in the addon`);
  const found = "no libjpeg-turbo in the addon: sharp decodes JPEGs, about four times slower";
  return { name: "jpeg", status: "optional", found, fix: `${installCommand("jpeg")} && npx moco setup --rebuild` };
}

/**
 * The devices, and why CUDA is off where it is.
 *
 * @param trial what libtorch found, once the addon is loaded
 */
export function checkDevices(config: Config = readConfig(), trial: GpuTrial | null = null): Check {
  const libtorch = lookForLibtorch(config);
  const cpu = `cpu (${availableParallelism()} threads, ${(totalmem() / 1e9).toFixed(0)} GB)`;
  return checkGpus(cpu, lookForGpus(), "root" in libtorch ? libtorch : null, trial);
}

/**
 * The folder for what is fetched.
 *
 * @param hasLibtorch whether nothing has to be fetched into it before the package works
 */
export function checkCache({ cache }: Pick<Config, "cache">, hasLibtorch: boolean): Check {
  let folder = cache;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder); // it is made when it is needed
  try {
    if (!statSync(folder).isDirectory()) throw new Error(`${folder} is a file`);
    accessSync(folder, constants.W_OK | constants.X_OK);
    return ok("cache", cache);
  } catch (error) {
    const what = hasLibtorch ? "no demo, no kernels of one's own" : "libtorch cannot be fetched";
    const found = `${cache} cannot be written (${(error as Error).message}): ${what}`;
    return { name: "cache", status: hasLibtorch ? "optional" : "missing", found, fix: "export MOCO_CACHE=FOLDER, one that you may write to" };
  }
}

function checkPython(config: Config, hasLibtorch: boolean): Check {
  const needed = hasLibtorch ? "optional" : "missing";
  try {
    const python = findPython(config);
    const found = `${python.version} (${python.command})`;
    if (python.hasPip) return ok("python", `${found} with pip`);
    return { name: "python", status: needed, found: `${found} without pip`, fix: installCommand("pip") };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    return { name: "python", status: needed, found: placesTried(error), fix: installCommand("python") };
  }
}

// The places that an error lists, without the ways out at its end.
function placesTried(error: SetupError): string {
  const lines = error.message.split("\n").filter((line) => line.startsWith("  ") && !/^ {2}\d\./.test(line));
  return lines.map((line) => line.trim()).join("; ");
}

function checkTool(name: "compiler" | "cmake", commands: string[], fresh: boolean): Check {
  for (const command of commands) {
    const version = programVersion(command);
    if (version) return ok(name, version);
  }
  return { name, status: fresh ? "optional" : "missing", found: "not found", fix: installCommand(name) };
}
