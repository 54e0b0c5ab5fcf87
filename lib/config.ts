import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** What the environment asks for. Nothing else in the project reads environment variables. */
export interface Config {
  /** `LIBTORCH`: a folder with libtorch in it, as a libtorch zip or as Python's `torch` package. */
  readonly libtorch: string | null;
  /** `LIBTORCH_USE_PYTORCH=1`: use the torch that is installed in Python. */
  readonly usePytorch: boolean;
  /** `MOCO_CACHE`: where fetched libraries live. Default: `moco-v3` in the user's cache folder. */
  readonly cache: string;
  /** `MOCO_PYTHON`: the Python that fetches libtorch. Default: the first of `python3` and `python` that runs. */
  readonly python: string | null;
  /** `MOCO_CUDA=1` or `0`: fetch libtorch with or without CUDA. Default (`null`): with it where an NVIDIA driver is found. */
  readonly cuda: boolean | null;
  /** `MOCO_QUIET=1`: no progress output. */
  readonly quiet: boolean;
  /** `MOCO_DEBUG=1`: stack traces of failed commands. */
  readonly debug: boolean;
}

type Environment = Record<string, string | undefined>;

/**
 * Reads the environment.
 *
 * @throws {ConfigError} for a switch that is neither on nor off.
 * @example
 * readConfig({ MOCO_CACHE: "/scratch/moco" }).cache; // "/scratch/moco"
 */
export function readConfig(environment: Environment = process.env): Config {
  const folder = (name: string): string | null => (environment[name] ? resolve(environment[name]) : null);
  return {
    libtorch: folder("LIBTORCH"),
    usePytorch: readSwitch(environment, "LIBTORCH_USE_PYTORCH") ?? false,
    cache: folder("MOCO_CACHE") ?? join(userCacheFolder(environment), "moco-v3"),
    python: environment.MOCO_PYTHON || null,
    cuda: readSwitch(environment, "MOCO_CUDA"),
    quiet: readSwitch(environment, "MOCO_QUIET") ?? false,
    debug: readSwitch(environment, "MOCO_DEBUG") ?? false,
  };
}

/**
 * The environment for a child process: ours, with `changes` on top (`undefined` removes a variable).
 */
export function childEnvironment(changes: Environment = {}): NodeJS.ProcessEnv {
  return { ...process.env, ...changes };
}

/**
 * Lets OpenMP's threads sleep soon after they run out of work; to be called before libtorch is loaded, as OpenMP reads this once. GNU's default
 * is to spin for milliseconds: where other threads want the cores, such as those that prepare the next batch, a step then takes three times as
 * long (1,400 against 450 ms, two cores and one busy neighbour), and with idle cores it gains a few per cent. What the user has set stays.
 */
export function calmOpenMP(): void {
  if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= "1000";
}

/** `CUDA_VISIBLE_DEVICES`, where it leaves no GPU visible, or null. */
export function hiddenGpus(environment: Environment = process.env): string | null {
  const visible = environment.CUDA_VISIBLE_DEVICES;
  return visible !== undefined && /^(\s*|-1\b.*|none|void|NoDevFiles)$/i.test(visible) ? visible : null;
}

/**
 * Gives cuBLAS a workspace of fixed size, without which its products may differ from run to run; to be called before the first matrix product
 * on a GPU, as cuBLAS reads this once. What the user has set stays.
 */
export function fixCublasWorkspace(): void {
  process.env.CUBLAS_WORKSPACE_CONFIG ??= ":4096:8";
}

/** A job of Slurm's. */
export interface SlurmJob {
  /** As `scontrol` takes it: `JOB`, or `ARRAY_TASK` in an array of jobs. */
  readonly id: string;
  /** Whether this process is the first of the job's, which speaks for all of them. */
  readonly first: boolean;
}

/** The Slurm job that this process is part of, or null. */
export function slurmJob(environment: Environment = process.env): SlurmJob | null {
  const { SLURM_JOB_ID: job, SLURM_ARRAY_JOB_ID: array, SLURM_ARRAY_TASK_ID: task, SLURM_PROCID: process = "0", RANK: rank = "0" } = environment;
  if (!job) return null;
  return { id: array && task ? `${array}_${task}` : job, first: process === "0" && rank === "0" };
}

/** An environment variable has a value that nothing can be made of. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

function readSwitch(environment: Environment, name: string): boolean | null {
  const value = environment[name]?.trim().toLowerCase();
  if (!value) return null;
  if (["1", "true", "yes", "on"].includes(value)) return true;
  if (["0", "false", "no", "off"].includes(value)) return false;
  throw new ConfigError(`${name}=${environment[name]} is neither on nor off; set it to 1 or 0, or unset it`);
}

function userCacheFolder(environment: Environment): string {
  if (environment.XDG_CACHE_HOME) return environment.XDG_CACHE_HOME;
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches");
  if (process.platform === "win32" && environment.LOCALAPPDATA) return environment.LOCALAPPDATA;
  return join(homedir(), ".cache");
}
