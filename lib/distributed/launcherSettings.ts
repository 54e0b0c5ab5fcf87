import type { LaunchVariables } from "../config.js";
import { PlacementError } from "./placement.js";
import { wholeSetting, type Setting } from "./setting.js";
import { firstNode, tasksOfNode } from "./slurmNodes.js";

/** What a launcher's variables say; null where they are silent. */
export interface LauncherSettings {
  worldSize: Setting<number> | null;
  rank: Setting<number> | null;
  localRank: Setting<number> | null;
  localWorldSize: Setting<number> | null;
  nodeRank: Setting<number> | null;
  address: Setting<string> | null;
  port: Setting<number> | null;
  externalStore: boolean;
  generation: string;
  /** Where the variables suggest several processes that are not there. */
  note: string | null;
}

/** Ports that `slurmPort` chooses from: below those that systems give away by themselves. */
const SLURM_PORTS = { first: 20_000, count: 10_000 };

/**
 * What torchrun (or whoever uses its names), or else Slurm, says about this process.
 *
 * @throws PlacementError for values that mean nothing
 */
export function launcherSettings(variables: LaunchVariables): LauncherSettings {
  const meeting = {
    address: variables.MASTER_ADDR === undefined ? null : { value: variables.MASTER_ADDR, source: "MASTER_ADDR" },
    port: wholeSetting("MASTER_PORT", variables.MASTER_PORT, 1, 65535),
  };
  const named: LauncherSettings = {
    worldSize: wholeSetting("WORLD_SIZE", variables.WORLD_SIZE, 1),
    rank: wholeSetting("RANK", variables.RANK),
    localRank: wholeSetting("LOCAL_RANK", variables.LOCAL_RANK),
    localWorldSize: wholeSetting("LOCAL_WORLD_SIZE", variables.LOCAL_WORLD_SIZE, 1),
    nodeRank: wholeSetting("GROUP_RANK", variables.GROUP_RANK),
    ...meeting,
    externalStore: variables.TORCHELASTIC_USE_AGENT_STORE?.toLowerCase() === "true",
    generation: [variables.TORCHELASTIC_RUN_ID ?? "run", variables.TORCHELASTIC_RESTART_COUNT ?? "0"].join("/"),
    note: null,
  };
  if (named.worldSize !== null || named.rank !== null) return named;
  return slurmSettings(variables, named) ?? named;
}

/** What `srun` says about one of several tasks; null where this process is none. */
function slurmSettings(variables: LaunchVariables, named: LauncherSettings): LauncherSettings | null {
  const [source, count] =
    variables.SLURM_STEP_NUM_TASKS === undefined
      ? ["SLURM_NTASKS", variables.SLURM_NTASKS] as const
      : ["SLURM_STEP_NUM_TASKS", variables.SLURM_STEP_NUM_TASKS] as const;
  const worldSize = wholeSetting(source, count, 1);
  if (worldSize === null || worldSize.value === 1 || variables.SLURM_PROCID === undefined) return null;
  if (variables.SLURM_STEP_ID === undefined) {
    // The batch script itself runs once, and has the variables of the whole job all the same.
    const note = `Slurm has given this job ${worldSize.value} tasks (${source}), but this process was not started by srun and trains alone; ` +
      "begin the command with srun to train with all of them";
    return { ...named, note };
  }
  const job = wholeSetting("SLURM_JOB_ID", variables.SLURM_JOB_ID);
  const step = wholeSetting("SLURM_STEP_ID", variables.SLURM_STEP_ID)!;
  const nodeRank = wholeSetting("SLURM_NODEID", variables.SLURM_NODEID);
  return {
    worldSize,
    rank: wholeSetting("SLURM_PROCID", variables.SLURM_PROCID),
    localRank: wholeSetting("SLURM_LOCALID", variables.SLURM_LOCALID),
    localWorldSize: named.localWorldSize ?? tasksHere(variables, nodeRank),
    nodeRank,
    address: named.address ?? slurmMaster(variables),
    port: named.port ?? (job === null ? null : { value: slurmPort(job.value, step.value), source: job.source }),
    externalStore: false,
    generation: [`slurm-${job?.value ?? 0}.${step.value}`, variables.SLURM_RESTART_COUNT ?? "0"].join("/"),
    note: null,
  };
}

function tasksHere(variables: LaunchVariables, nodeRank: Setting<number> | null): Setting<number> | null {
  const source = variables.SLURM_STEP_TASKS_PER_NODE === undefined ? "SLURM_TASKS_PER_NODE" : "SLURM_STEP_TASKS_PER_NODE";
  const list = variables[source];
  return list === undefined || nodeRank === null ? null : { value: tasksOfNode(list, nodeRank.value, source), source };
}

/** The host of rank 0: the first of the step's nodes. */
function slurmMaster(variables: LaunchVariables): Setting<string> {
  const source = variables.SLURM_STEP_NODELIST === undefined ? "SLURM_JOB_NODELIST" : "SLURM_STEP_NODELIST";
  const list = variables[source];
  if (list !== undefined) return { value: firstNode(list, source), source };
  throw new PlacementError(`SLURM_PROCID is set, but neither SLURM_JOB_NODELIST nor MASTER_ADDR; set MASTER_ADDR to the host of rank 0`);
}

/** A port that all tasks of a job step derive alike, and other jobs on the same host most likely otherwise. */
export function slurmPort(job: number, step: number): number {
  return SLURM_PORTS.first + ((job * 7 + step) % SLURM_PORTS.count);
}
