import { execFileSync } from "node:child_process";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { version as libtorchVersion } from "../../lib/torch/index.js";
import { BenchmarkError } from "./benchmarkError.js";

/** What a benchmark gives: ratios are ours over the peer's, so times and memory below 1 are better, `...PerSecond` above 1. */
export interface BenchmarkResult {
  name: string;
  date: string;
  machine: { cpu: string; cores: number; memoryGiB: number; system: string; capability: string; gpu?: string; gpuMemoryGiB?: number; matrixProductTflops?: number | Record<string, number> };
  versions: Record<string, string>;
  settings: Record<string, unknown>;
  ratios: Record<string, number>;
  /** What a ratio is of, where it is not plainly "x the peer's". */
  meanings?: Record<string, string>;
  raw: Record<string, unknown>;
}

export interface BenchmarkOptions {
  /** Python interpreter with torch 2.11. */
  python: string;
  /** Checkout of facebookresearch/moco-v3. */
  upstream?: string;
  threads: number;
  rounds: number;
  quick: boolean;
  /**
   * Of step, end2end and plan: architectures; of step-gpu: also with batches, such as `vit_small:256`; of micro-batch: parts; separated by commas.
   * Default: all.
   */
  only?: string;
  /** Of step and step-gpu: also beside `torch.compile`. Default true. */
  compile?: boolean;
  /** Of end2end: where the network is trained, `cpu` or `cuda`. Default `cpu`. */
  device?: string;
  /** Of step-gpu: sides, such as `ours,compiled`. Default: all. */
  sides?: string;
  /** Where a benchmark that writes files makes a temporary folder; the system's place for such files unless given. */
  dir?: string;
}

export { saveResult } from "./saveResult.js";
export { geometricMean, median } from "./spread.js";

/** @param python the peer's interpreter, where there is one */
export function describeRun(
  name: string, python: string | null, settings: Record<string, unknown>,
): Omit<BenchmarkResult, "ratios" | "meanings" | "raw"> {
  const { libtorch, capability } = libtorchVersion();
  return {
    name,
    date: new Date().toISOString().slice(0, 10),
    machine: {
      cpu: cpus()[0]?.model ?? "unknown",
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${arch()} ${release()}`,
      capability,
    },
    versions: {
      node: process.versions.node,
      libtorch,
      ...(python !== null && { python: pythonVersion(python) }),
    },
    settings,
  };
}

function pythonVersion(python: string): string {
  return execFileSync(python, ["-c", "import platform, torch; print(platform.python_version(), 'torch', torch.__version__)"], {
    encoding: "utf8",
  }).trim();
}

/**
 * Folder of the torch that a Python imports: both sides of a comparison then run on the same libtorch.
 *
 * @throws {BenchmarkError} where there is none
 */
export function torchFolder(python: string): string {
  const code = "import importlib.util as u, os; found = u.find_spec('torch'); print(os.path.dirname(found.origin) if found else '')";
  let folder: string;
  try {
    folder = execFileSync(python, ["-c", code], { encoding: "utf8" }).trim();
  } catch (error) {
    throw new BenchmarkError(`${python} does not run (${(error as Error).message.split("\n")[0]}); give a Python with torch 2.11 to --python`, { cause: error });
  }
  if (folder === "") throw new BenchmarkError(`${python} has no torch; give a Python with torch 2.11 to --python`);
  return folder;
}
