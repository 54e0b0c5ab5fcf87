import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { type Config, childEnvironment } from "../config.js";
import { findCudaHeaders, wantsCudaAddon } from "./cudaHeaders.js";
import { BuildError } from "./errors.js";
import { installCommand } from "./installCommand.js";
import { withLock } from "./lock.mjs";
import { packageRoot } from "./packageRoot.js";
import { ADDON_FILES, CUDA_ADDON } from "./prebuilt.js";
import { say, startProgress } from "./progress.js";
import type { LibtorchLocation } from "./torchFolder.js";

/** Where to build. */
export interface BuildOptions {
  /** The folder with CMakeLists.txt. Default: this package. */
  readonly root?: string;
  /** The folder to build in. Default: `build` in the root. */
  readonly out?: string;
  /** Build even what is up to date: libraries that CMake looks for may have come or gone. Default: false. */
  readonly rebuild?: boolean;
  /** Build the CUDA addon too, if CUDA's headers are found. Default: where there is a driver, `MOCO_CUDA` asks for it, or it was built before. */
  readonly cuda?: boolean;
  /** For any system that libtorch's own packages run on, with libjpeg-turbo inside, as packaged binaries are. Default: for this one. */
  readonly portable?: boolean;
}

// Torch's headers need this much memory for each file that is compiled at the same time.
const BYTES_PER_COMPILER = 1.5e9;
const LINES_SHOWN = 30;

/** Whether the addon is built from these sources for this libtorch. */
export function isAddonFresh(libtorch: LibtorchLocation, { root = packageRoot, out = join(root, "build") }: BuildOptions = {}): boolean {
  const folder = join(out, "Release");
  return ADDON_FILES.every((each) => existsSync(join(folder, each))) && readStamp(folder) === fingerprint(libtorch, root);
}

/** CUDA's headers where its addon is wanted: empty where it is not, or they were not found. */
function cudaIncludes(config: Config, libtorch: LibtorchLocation, folder: string, wanted: boolean | undefined): readonly string[] {
  if (!(wanted ?? (wantsCudaAddon(config) || existsSync(join(folder, CUDA_ADDON))))) return [];
  const headers = findCudaHeaders(config, libtorch);
  return "includeDirs" in headers ? headers.includeDirs : [];
}

/**
 * Builds the addon for a libtorch with cmake-js, unless it is up to date. Needs no network: Node-API's headers are a package.
 *
 * @throws {BuildError} with the compiler's last lines and what to do.
 */
export async function buildAddon(config: Config, libtorch: LibtorchLocation, options: BuildOptions = {}): Promise<void> {
  const { root = packageRoot, out = join(root, "build"), rebuild = false, portable = false } = options;
  const folder = join(out, "Release");
  const includes = cudaIncludes(config, libtorch, folder, options.cuda);
  // The stamp also names the sources whose CUDA part did not build here: it is not tried again by itself.
  const failed = join(folder, "moco_cuda.failed");
  const triedInVain = (): boolean => options.cuda !== true && readOrNull(failed) === readStamp(folder);
  const isFresh = (): boolean =>
    isAddonFresh(libtorch, options) && (includes.length === 0 || existsSync(join(folder, CUDA_ADDON)) || triedInVain());
  if (!rebuild && isFresh()) return;
  const onWait = (holder: string): void => say(config, `Waiting for the build that ${holder} has begun`);
  const build = async (): Promise<void> => {
    if (!rebuild && isFresh()) return;
    mkdirSync(folder, { recursive: true });
    // Gone while the addon is being built, so that nobody loads half a file.
    rmSync(join(folder, "moco.stamp"), { force: true });
    for (const each of [join(folder, CUDA_ADDON), failed]) rmSync(each, { force: true });
    const stamp = fingerprint(libtorch, root);
    assertCMake();
    const log = join(out, "addon.log");
    rmSync(log, { force: true });
    const definitions = (cuda: readonly string[]): string[] => [
      `--CDMOCO_TORCH_INCLUDE=${libtorch.includeDirs.join(";")}`,
      `--CDMOCO_TORCH_LIB=${libtorch.libDir}`,
      `--CDMOCO_TORCH_VERSION=${libtorch.version}`,
      `--CDMOCO_CUDA_INCLUDE=${cuda.join(";")}`,
      `--CDMOCO_NODE_API_INCLUDE=${nodeApiIncludes().join(";")}`,
      ...(portable ? ["--CDMOCO_PORTABLE=ON", "--CDMOCO_JPEG=static"] : []),
    ];
    const place = ["--directory", root, "--out", out];
    const progress = startProgress(config, `Building the addon for libtorch ${libtorch.version}`, 100, "steps");
    const run = (command: string, cuda = includes): Promise<string | null> =>
      runCMake([command, ...place, ...definitions(cuda)], log, (percent) => progress.update(percent));
    let failure: string | null;
    try {
      failure = await run("configure");
      if (failure !== null) {
        // A build folder that was moved, or made with another generator, cannot be configured again; a new one can.
        for (const each of ["CMakeCache.txt", "CMakeFiles"]) rmSync(join(out, each), { recursive: true, force: true });
        failure = await run("configure");
      }
      failure ??= await run("build");
      if (failure !== null && includes.length > 0 && options.cuda !== true) {
        // Nobody asked for it, and most of what a GPU does needs the first addon only.
        failure = (await run("configure", [])) ?? (await run("build", []));
        if (failure === null) {
          writeFileSync(failed, `${stamp}\n`);
          say(config, `The CUDA addon did not build (see ${log}): no CUDA graphs, no NCCL`);
        }
      }
    } finally {
      progress.end();
    }
    if (failure !== null) throw explain(failure, log);
    for (const each of includes.length > 0 && !existsSync(failed) ? [...ADDON_FILES, CUDA_ADDON] : ADDON_FILES) {
      if (!existsSync(join(folder, each))) throw new BuildError(`The build ended without ${join(folder, each)}; its output is in ${log}`);
    }
    writeFileSync(join(folder, "moco.stamp"), `${stamp}\n`);
  };
  await withLock(join(out, "addon.lock"), build, { onWait });
}

/** npm puts them beside this package's files, or anywhere above them. */
function nodeApiIncludes(): string[] {
  const require = createRequire(import.meta.url);
  const folder = (name: string): string => dirname(require.resolve(`${name}/package.json`));
  return [join(folder("node-api-headers"), "include"), folder("node-addon-api")];
}

/** Whether a program runs, by its `--version`; the version's first line if it does. */
export function programVersion(command: string): string | null {
  const result = spawnSync(command, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return result.status === 0 ? result.stdout.split("\n")[0]!.trim() : null;
}

/** Runs a cmake-js command, its output into the log; answers what it printed if it failed. */
function runCMake(args: string[], log: string, onPercent: (percent: number) => void): Promise<string | null> {
  const require = createRequire(import.meta.url);
  const tool = join(dirname(require.resolve("cmake-js/package.json")), "bin", "cmake-js");
  const file = createWriteStream(log, { flags: "a" });
  return new Promise((resolve, reject) => {
    const parallel = args[0] === "build" ? ["--parallel", String(compilers())] : [];
    const child = spawn(process.execPath, [tool, ...args, ...parallel], { env: childEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const collect = (chunk: Buffer): void => {
      const text = chunk.toString();
      file.write(text);
      output = (output + text).slice(-100_000);
      const steps = [...text.matchAll(/\[\s*(\d+)(?:%|\/(\d+))\]/g)].pop(); // make's [ 40%], Ninja's [4/10]
      if (steps) onPercent(steps[2] ? Math.round((Number(steps[1]) / Number(steps[2])) * 100) : Number(steps[1]));
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", reject);
    child.on("close", (code) => file.end(() => resolve(code === 0 ? null : output)));
  });
}

function compilers(): number {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(process.availableMemory() / BYTES_PER_COMPILER)));
}

function assertCMake(): void {
  if (programVersion("cmake")) return;
  throw new BuildError(`CMake, which builds the addon, was not found. Install it: ${installCommand("cmake")}`);
}

function explain(output: string, log: string): BuildError {
  if (/No CMAKE_CXX_COMPILER could be found|CMAKE_CXX_COMPILER not set|unable to find a C\+\+ compiler/i.test(output)) {
    return new BuildError(`No C++ compiler was found. Install one: ${installCommand("compiler")}`);
  }
  if (/Killed signal terminated|signal 9|out of memory/i.test(output)) {
    const advice = "Close other programs (2 GB are enough), and run `moco setup` again";
    return new BuildError(`The compiler ran out of memory. ${advice}. Its output is in ${log}`);
  }
  const lines = output.trimEnd().split("\n");
  const first = lines.findIndex((line) => /\berror\b/i.test(line));
  const shown = lines.slice(first < 0 ? -LINES_SHOWN : first, first < 0 ? undefined : first + LINES_SHOWN);
  const advice = `The whole output is in ${log}; mend what it names and run \`moco setup\` again`;
  return new BuildError(`The addon did not build:\n${shown.join("\n")}\n${advice}`);
}

function readStamp(folder: string): string | null {
  return readOrNull(join(folder, "moco.stamp"));
}

function readOrNull(file: string): string | null {
  return existsSync(file) ? readFileSync(file, "utf8").trim() : null;
}

function fingerprint(libtorch: LibtorchLocation, root: string): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([libtorch.root, libtorch.build, process.platform, process.arch]));
  const native = join(root, "native");
  const sources = existsSync(native) ? readdirSync(native, { withFileTypes: true, recursive: true }) : [];
  const files = sources.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of [join(root, "CMakeLists.txt"), ...files.sort()]) {
    if (existsSync(file)) hash.update(`${relative(root, file)}\0`).update(readFileSync(file)).update("\0");
  }
  return hash.digest("hex");
}
