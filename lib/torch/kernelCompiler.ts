import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readConfig, type Config } from "../config.js";
import { native } from "../native.js";
import { findCudaHeaders } from "../setup/cudaHeaders.js";
import { findLibtorch } from "../setup/findLibtorch.js";
import { findNvrtc } from "../setup/findNvrtc.js";

/** CUDA C++ with a kernel, or with several. */
export interface KernelSource {
  /** For messages and the file that is kept, and of the function where there is one. Functions are `extern "C" __global__`. */
  name: string;
  source: string;
  /** NVRTC's, such as `"-DWIDTH=384"` or `"--use_fast_math"`. */
  options?: readonly string[];
}

/** A kernel that cannot be compiled, loaded or launched as it was. */
export class KernelError extends Error {
  override readonly name = "KernelError";
}

/** NVIDIA's run-time compiler. */
export interface KernelCompiler {
  path: string;
  version: string;
  /** Compute capabilities that it compiles for, 90 for 9.0, rising. */
  architectures: readonly number[];
  /** Folders in which it looks for headers such as `cuda_fp16.h`. */
  includeDirs: readonly string[];
}

/** Machine code for one architecture. */
export interface CompiledKernel {
  image: ArrayBuffer;
  /** Where it is kept. */
  file: string;
  /** Whether it was there already. */
  cached: boolean;
}

/** SHA-256 of what follows: a file that lost its end, or a bit, is compiled anew. */
const DIGEST_BYTES = 32;

/** The compiler beside libtorch, in the cache or in a toolkit; null where there is none. */
export function findKernelCompiler(config: Config = readConfig()): KernelCompiler | null {
  const libtorch = findLibtorch(config);
  const path = findNvrtc(config, libtorch);
  if (path === null) return null;
  const folder = dirname(path);
  const builtins = readdirSync(folder).find((file) => /^libnvrtc-builtins.*\.so/.test(file));
  const [major, minor, ...architectures] = native.kernelCompiler(path, builtins === undefined ? "" : join(folder, builtins)) as [number, number, ...number[]];
  const headers = findCudaHeaders(config, libtorch);
  return { path, version: `${major}.${minor}`, architectures, includeDirs: "includeDirs" in headers ? headers.includeDirs : [] };
}

/**
 * Compiles a kernel for an architecture, or takes what was compiled before from `kernels` in the cache's folder: a file for each source,
 * options, architecture and compiler. Needs no GPU.
 *
 * @param architecture compute capability, 90 for 9.0
 * @throws {KernelError} with the compiler's log for a source with errors; for an architecture that the compiler does not know
 */
export function compileForArchitecture(
  { name, source, options = [] }: KernelSource, architecture: number, compiler: KernelCompiler, cache: string = readConfig().cache,
): CompiledKernel {
  if (!compiler.architectures.includes(architecture)) {
    throw new KernelError(
      `kernel ${name}: NVRTC ${compiler.version} knows no compute capability ${architecture / 10}, only ` +
        `${compiler.architectures.map((each) => each / 10).join(", ")}; take a libtorch for a newer CUDA`,
    );
  }
  const key = createHash("sha256").update(JSON.stringify([name, source, options, architecture, compiler.version])).digest("hex");
  const file = join(cache, "kernels", `${name}-sm${architecture}-${key.slice(0, 32)}.cubin`);
  const kept = readKept(file);
  if (kept !== null) return { image: kept, file, cached: true };
  const words = [`--gpu-architecture=sm_${architecture}`, "--std=c++17", ...compiler.includeDirs.map((each) => `--include-path=${each}`), ...options];
  const image = native.compileKernel(compiler.path, name, source, words);
  if (typeof image === "string") throw new KernelError(`kernel ${name} does not compile for compute capability ${architecture / 10}:\n${image.trimEnd()}`);
  keep(file, image);
  return { image, file, cached: false };
}

function readKept(file: string): ArrayBuffer | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch {
    return null;
  }
  const image = bytes.subarray(DIGEST_BYTES);
  if (!digestOf(image).equals(bytes.subarray(0, DIGEST_BYTES))) return null;
  return new Uint8Array(image).buffer;
}

/** Under another name first, so that a process beside this one finds all of it or nothing. A folder that cannot be written costs time only. */
function keep(file: string, image: ArrayBuffer): void {
  const bytes = Buffer.from(image);
  const temporary = `${file}.${randomUUID()}`;
  try {
    mkdirSync(dirname(file), { recursive: true });
  } catch {
    return;
  }
  try {
    writeFileSync(temporary, Buffer.concat([digestOf(bytes), bytes]));
    renameSync(temporary, file);
  } catch {
    rmSync(temporary, { force: true });
  }
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
