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
  /** `CUDA_HOME` or `CUDA_PATH`: a CUDA toolkit whose headers may serve. */
  readonly cudaHome: string | null;
  /** `MOCO_QUIET=1`: no progress output. */
  readonly quiet: boolean;
  /** `MOCO_SOCKET_IFNAME`, or `GLOO_SOCKET_IFNAME` as PyTorch's users know it: the network interface of collectives. Default: the one towards rank 0. */
  readonly socketInterface: string | null;
  /** `MOCO_CHECK_COLLECTIVES=1`: every collective first compares shapes and types of all ranks. */
  readonly checkCollectives: boolean;
  /** `MOCO_DEBUG=1`: stack traces of failed commands. */
  readonly debug: boolean;
  /**
   * `MOCO_WATCHDOG_SECONDS`: after how many seconds without a sign of life a process that trains with others, or a machine, counts as dead.
   * Default 30; 0 switches the watchdog off.
   */
  readonly watchdogSeconds: number;
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
    cudaHome: folder("CUDA_HOME") ?? folder("CUDA_PATH"),
    quiet: readSwitch(environment, "MOCO_QUIET") ?? false,
    // PyTorch takes several interfaces, and so many connections; the first is enough.
    socketInterface: (environment.MOCO_SOCKET_IFNAME || environment.GLOO_SOCKET_IFNAME || "").split(",")[0] || null,
    checkCollectives: readSwitch(environment, "MOCO_CHECK_COLLECTIVES") ?? false,
    debug: readSwitch(environment, "MOCO_DEBUG") ?? false,
    watchdogSeconds: readSeconds(environment, "MOCO_WATCHDOG_SECONDS") ?? 30,
  };
}

/**
 * The environment for a child process: ours, with `changes` on top (`undefined` removes a variable).
 */
export function childEnvironment(changes: Environment = {}): NodeJS.ProcessEnv {
  return { ...process.env, ...changes };
}

/** What the environment tells of an MLflow server, in MLflow's own variables. */
export interface MlflowVariables {
  /** `MLFLOW_TRACKING_URI` */
  readonly uri: string | null;
  /** `MLFLOW_EXPERIMENT_NAME` */
  readonly experiment: string | null;
  /** `MLFLOW_TRACKING_TOKEN` */
  readonly token: string | null;
  /** `MLFLOW_TRACKING_USERNAME` */
  readonly username: string | null;
  /** `MLFLOW_TRACKING_PASSWORD` */
  readonly password: string | null;
}

/** Reads where MLflow is, and who asks there. */
export function mlflowVariables(environment: Environment = process.env): MlflowVariables {
  const value = (name: string): string | null => environment[name]?.trim() || null;
  return {
    uri: value("MLFLOW_TRACKING_URI"),
    experiment: value("MLFLOW_EXPERIMENT_NAME"),
    token: value("MLFLOW_TRACKING_TOKEN"),
    username: value("MLFLOW_TRACKING_USERNAME"),
    password: value("MLFLOW_TRACKING_PASSWORD"),
  };
}

let launchedHere: boolean | null = null;

/** Whether `moco launch` has started this process (`MOCO_LAUNCHED`). What this process starts is started by no launcher. */
export function launched(): boolean {
  launchedHere ??= readSwitch(process.env, "MOCO_LAUNCHED") ?? false;
  delete process.env.MOCO_LAUNCHED;
  return launchedHere;
}

/**
 * Lets OpenMP's threads sleep soon after they run out of work; to be called before libtorch is loaded, as OpenMP reads this once. GNU's default
 * is to spin for milliseconds: where other threads want the cores, such as those that prepare the next batch, a step then takes three times as
 * long (1,400 against 450 ms, two cores and one busy neighbour), and with idle cores it gains a few per cent. What the user has set stays.
 */
export function calmOpenMP(): void {
  if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= "1000";
}

/**
 * Keeps c10d from printing a stack trace for every connection that ends: our errors say what happened. To be called before libtorch is loaded.
 * What the user has set stays.
 */
export function quietC10d(): void {
  if (process.env.TORCH_CPP_LOG_LEVEL === undefined) process.env.TORCH_CPP_LOG_LEVEL = "FATAL";
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

/** What launchers tell the processes that they start: torchrun's names, which PyTorch's users know, and Slurm's. */
const LAUNCH_VARIABLES = [
  "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT",
  "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID",
  "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT",
  "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST", "SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE",
  "MOCO_SPAWNED",
] as const;

/** A launcher's variables as they are; those that are not set, or empty, are left out. */
export type LaunchVariables = Partial<Record<(typeof LAUNCH_VARIABLES)[number], string>>;

/** Reads what a launcher has told this process. */
export function launchVariables(environment: Environment = process.env): LaunchVariables {
  const given = LAUNCH_VARIABLES.map((name) => [name, environment[name]?.trim()] as const).filter(([, value]) => value);
  return Object.fromEntries(given);
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

function readSeconds(environment: Environment, name: string): number | null {
  const text = environment[name]?.trim();
  if (!text) return null;
  const value = Number(text);
  if (value === 0 || (value >= 1 && value <= 86_400)) return value;
  throw new ConfigError(`${name}=${environment[name]} is no number of seconds from 1 to 86400; set it to one, to 0 for none, or unset it`);
}

function userCacheFolder(environment: Environment): string {
  if (environment.XDG_CACHE_HOME) return environment.XDG_CACHE_HOME;
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches");
  if (process.platform === "win32" && environment.LOCALAPPDATA) return environment.LOCALAPPDATA;
  return join(homedir(), ".cache");
}
