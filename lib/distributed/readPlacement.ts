import type { LaunchVariables } from "../config.js";
import { readDistUrl, UNUSED_URL } from "./distUrl.js";
import { launcherSettings, type LauncherSettings } from "./launcherSettings.js";
import { PlacementError, type Placement } from "./placement.js";
import { told, type Setting } from "./setting.js";

/** Upstream's flags, with its meaning; -1 and its default address stand for "not given". */
export interface PlacementFlags {
  worldSize: number;
  rank: number;
  distUrl: string;
  distBackend: string;
  multiprocessingDistributed?: boolean;
}

/** What this machine has, as far as it matters here. */
export interface PlacementMachine {
  /** GPUs that this process can see. */
  gpus: number;
  /** The device that the user chose, or null. */
  device: string | null;
}

/** A process for each GPU of this machine has to be started first. */
export interface Spawn {
  processes: number;
  machines: number;
  machine: number;
  masterAddress: string;
  masterPort: number;
}

/** A process's place, and who told it. */
export type PlacementFound =
  | { kind: "alone"; note: string | null }
  | { kind: "member"; placement: Placement }
  | { kind: "spawn"; spawn: Spawn };

const LOOPBACK = /^(localhost|127(\.\d+){3}|::1)$/i;

/**
 * Reads from upstream's flags and a launcher's variables with whom this process trains. What a flag says counts more than a variable.
 *
 * - `--world-size` and `--rank` count machines, and with `--multiprocessing-distributed` each of them starts a process for each of its GPUs.
 *   A machine without a GPU, or whose user chose a device, has one process.
 * - `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` count processes, as torchrun sets them.
 * - Slurm's variables do where `srun` has started several tasks.
 *
 * @throws PlacementError for what is incomplete or contradicts itself: names the flag or variable, and the remedy
 */
export function readPlacement(commandLine: PlacementFlags, variables: LaunchVariables, machine: PlacementMachine): PlacementFound {
  // A process that `--multiprocessing-distributed` has started has the flags that counted machines still on its command line.
  const flags = variables.MOCO_SPAWNED === undefined
    ? commandLine
    : { ...commandLine, worldSize: -1, rank: -1, distUrl: UNUSED_URL, multiprocessingDistributed: false };
  const launcher = launcherSettings(variables);
  const url = readDistUrl(flags.distUrl);
  const size = given("--world-size", flags.worldSize);
  const rank = given("--rank", flags.rank);
  if (size?.value === 0) throw new PlacementError("--world-size is 0; give 1 or more, the number of machines");
  requireBackend(flags.distBackend);
  refuseTwoLaunchers(flags, size, rank, variables, launcher);
  const address = url === null || url === "environment" ? launcher.address : { value: url.host, source: "--dist-url" };
  const port = url === null || url === "environment" ? launcher.port : { value: url.port, source: "--dist-url" };

  const worldSize = size ?? launcher.worldSize ?? (rank !== null && rank.value > 0 ? missing("--world-size", `${told(rank)}`) : null);
  if (url === "environment" && worldSize === null) throw new PlacementError("--dist-url is env://, but WORLD_SIZE is not set; set it, or give --world-size");
  const perMachine = flags.multiprocessingDistributed && machine.device === null ? Math.max(1, machine.gpus) : 1;
  const known = { ...launcher, worldSize: worldSize ?? (launcher.rank ? missing("WORLD_SIZE", told(launcher.rank)) : null), rank: rank ?? launcher.rank };
  if (perMachine > 1) {
    const machines = known.worldSize?.value ?? 1;
    const spawn = { processes: perMachine, machines, machine: machines === 1 ? 0 : requireRank(known).value };
    return { kind: "spawn", spawn: { ...spawn, ...spawnMeeting(machines, address, port) } };
  }
  if (known.worldSize === null || known.worldSize.value === 1) {
    // Where a flag outvotes WORLD_SIZE, RANK counts others.
    const place = rank ?? (size === null ? launcher.rank : null);
    if (place !== null && known.worldSize !== null) requireRank({ ...known, rank: place });
    return { kind: "alone", note: launcher.note };
  }
  return { kind: "member", placement: memberOf({ ...known, address, port }, size === null, machine, flags) };
}

function memberOf(known: LauncherSettings, byLauncher: boolean, machine: PlacementMachine, flags: PlacementFlags): Placement {
  const rank = requireRank(known).value;
  const worldSize = known.worldSize!.value;
  if (known.address === null) {
    throw byLauncher
      ? missing("MASTER_ADDR", told(known.worldSize!), "set it to the host of rank 0, or give --dist-url tcp://HOST:PORT")
      : missing("--dist-url", told(known.worldSize!), "give tcp://HOST:PORT with the host of rank 0 and a free port of it, or set MASTER_ADDR");
  }
  if (known.port === null) {
    throw missing("MASTER_PORT", told(known.address), "set it to a free port of that host, or give --dist-url tcp://HOST:PORT");
  }
  // All on one machine, where nobody says otherwise.
  const together = known.localRank === null && LOOPBACK.test(known.address.value);
  const localRank = known.localRank ?? { value: together ? rank : 0, source: "LOCAL_RANK" };
  const localWorldSize = known.localWorldSize ?? { value: together ? worldSize : localRank.value + 1, source: "LOCAL_WORLD_SIZE" };
  if (localRank.value >= localWorldSize.value) {
    throw new PlacementError(`${told(localRank)}, but ${told(localWorldSize)}; it counts the processes of this machine, from 0`);
  }
  if (localWorldSize.value > worldSize) {
    throw new PlacementError(`${told(localWorldSize)}, but ${told(known.worldSize!)} in all; correct one of them`);
  }
  const onGpu = machine.device === null ? machine.gpus > 0 : machine.device.startsWith("cuda");
  return {
    rank, worldSize,
    localRank: localRank.value,
    localWorldSize: localWorldSize.value,
    nodeRank: known.nodeRank?.value ?? (together ? 0 : Math.floor(rank / localWorldSize.value)),
    masterAddress: known.address.value,
    masterPort: known.port.value,
    backend: onGpu && flags.distBackend === "nccl" ? "nccl" : "gloo",
    externalStore: known.externalStore && known.address.source === "MASTER_ADDR",
    generation: known.generation,
  };
}

/** The device that a member trains on where the user chose none: its place's GPU, or the only one that it can see. */
export function deviceOfMember({ localRank }: Placement, gpus: number): string {
  return gpus === 0 ? "cpu" : `cuda:${gpus === 1 ? 0 : localRank}`;
}

function given(source: string, value: number): Setting<number> | null {
  return value === -1 ? null : { value, source };
}

function missing(what: string, because: string, remedy?: string): never {
  throw new PlacementError(`${because}, but ${what} is not given; ${remedy ?? "give it, too"}`);
}

function requireRank({ rank, worldSize }: LauncherSettings): Setting<number> {
  if (rank === null) throw new PlacementError(`${told(worldSize!)}, but neither --rank nor RANK says which of them this is; give --rank K, from 0`);
  if (rank.value < worldSize!.value) return rank;
  throw new PlacementError(`${told(rank)}, but ${told(worldSize!)}: ranks count from 0 to ${worldSize!.value - 1}; correct one of them`);
}

function requireBackend(name: string): void {
  if (name === "gloo" || name === "nccl") return;
  throw new PlacementError(`--dist-backend is "${name}"; give nccl (between GPUs) or gloo`);
}

/** A launcher that tells each process its local rank has started all there are: flags that ask for more, or for others, cannot be meant. */
function refuseTwoLaunchers(
  flags: PlacementFlags, size: Setting<number> | null, rank: Setting<number> | null, variables: LaunchVariables, launcher: LauncherSettings,
): void {
  if (variables.LOCAL_RANK === undefined || launcher.worldSize?.source !== "WORLD_SIZE") return;
  const started = `a launcher has started this process already (LOCAL_RANK is ${variables.LOCAL_RANK}, WORLD_SIZE is ${variables.WORLD_SIZE})`;
  if (flags.multiprocessingDistributed) {
    throw new PlacementError(`--multiprocessing-distributed starts a process for each GPU, but ${started}; leave the flag out, or start without a launcher`);
  }
  for (const [flag, variable] of [[size, launcher.worldSize], [rank, launcher.rank]] as const) {
    if (flag === null || variable === null || flag.value === variable.value) continue;
    throw new PlacementError(`${told(flag)}, but ${told(variable)}: ${started}; leave ${flag.source} out`);
  }
}

function spawnMeeting(
  machines: number, address: Setting<string> | null, port: Setting<number> | null,
): Pick<Spawn, "masterAddress" | "masterPort"> {
  if (machines === 1 && address === null) return { masterAddress: "127.0.0.1", masterPort: port?.value ?? 0 };
  const remedy = "give tcp://HOST:PORT with the host of machine 0 and a free port of it";
  if (address === null) throw missing("--dist-url", `--world-size is ${machines}`, remedy);
  if (port === null) throw missing("MASTER_PORT", told(address), remedy);
  return { masterAddress: address.value, masterPort: port.value };
}
