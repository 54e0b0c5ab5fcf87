import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { LibtorchFolderError } from "./errors.js";

/** How libtorch came to be where it is. */
export type LibtorchSource = "LIBTORCH" | "python" | "cache";

/** A libtorch on this machine. All paths are absolute. */
export interface LibtorchLocation {
  /** The folder that holds `lib/` and `include/`. */
  readonly root: string;
  readonly libDir: string;
  readonly includeDirs: string[];
  /** Its version without the build's suffix, e.g. `2.11.0`. */
  readonly version: string;
  /** Its version as it gives it itself, e.g. `2.11.0+cu130`. */
  readonly build: string;
  readonly source: LibtorchSource;
  /** Shared libraries to load, in this order, before the addon. */
  readonly preload: string[];
  /** Shared libraries to load on top where there is an NVIDIA driver; empty without CUDA. */
  readonly cudaPreload: string[];
  /** Whether its CUDA libraries are there. */
  readonly cuda: boolean;
}

/**
 * Describes the libtorch in a folder laid out as a libtorch zip (`lib/`, `include/`, `build-version`) or as Python's
 * `torch` package (`lib/`, `include/`, `version.py`), without running Python.
 *
 * @throws {LibtorchFolderError} if the folder does not hold a libtorch that an addon can be built against.
 */
export function inspectTorchFolder(folder: string, source: LibtorchSource): LibtorchLocation {
  const root = [folder, join(folder, "torch"), join(folder, "libtorch")].find((each) => existsSync(library(each, "torch_cpu")));
  if (!root) throw new LibtorchFolderError(`${folder} does not hold libtorch: there is no ${library(folder, "torch_cpu")}`);
  const includeDirs = [join(root, "include"), join(root, "include", "torch", "csrc", "api", "include")];
  const header = join(includeDirs[0]!, "ATen", "ATen.h");
  if (!existsSync(header)) throw new LibtorchFolderError(`${root} has libtorch's libraries but not its headers: there is no ${header}`);
  const build = readVersion(root);
  const cuda = existsSync(library(root, "torch_cuda"));
  return {
    root,
    libDir: join(root, "lib"),
    includeDirs,
    version: build.split("+")[0]!,
    build,
    source,
    preload: [...cudaRuntime(root), library(root, "c10"), library(root, "torch_cpu")],
    cudaPreload: cuda ? [library(root, "c10_cuda"), library(root, "torch_cuda")] : [],
    cuda,
  };
}

function library(root: string, name: string): string {
  return join(root, "lib", libraryFile(name));
}

/** File name of one of libtorch's shared libraries, such as `libc10.so`, `libc10.dylib`, `c10.dll`. */
export function libraryFile(name: string, platform: string = process.platform): string {
  if (platform === "win32") return `${name}.dll`;
  return `lib${name}${platform === "darwin" ? ".dylib" : ".so"}`;
}

function readVersion(root: string): string {
  const zip = join(root, "build-version");
  if (existsSync(zip)) return readFileSync(zip, "utf8").trim();
  const wheel = join(root, "version.py");
  const version = existsSync(wheel) ? /^__version__\s*=\s*'([^']+)'/m.exec(readFileSync(wheel, "utf8"))?.[1] : undefined;
  if (version) return version;
  throw new LibtorchFolderError(`${root} does not tell its version: there is neither a build-version file nor a version.py that names it`);
}

// torch's wheel with CUDA links its CPU library against these two, which live in packages beside it. The linker finds them
// by the library's own search path if all were installed together, and by name if they are loaded first.
function cudaRuntime(root: string): string[] {
  const nvidia = join(dirname(root), "nvidia");
  if (!existsSync(nvidia)) return [];
  const folders = readdirSync(nvidia).map((each) => join(nvidia, each, "lib")).filter((each) => existsSync(each));
  const find = (pattern: RegExp): string[] =>
    folders.flatMap((folder) => readdirSync(folder).filter((file) => pattern.test(file)).map((file) => join(folder, file)));
  return [...find(/^libcudart\.so\.\d+$/).slice(0, 1), ...find(/^libcupti\.so\.\d+$/).slice(0, 1)];
}
