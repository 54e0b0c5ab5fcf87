import { launchVariables } from "../config.js";
import type { PlacementMachine } from "../distributed/readPlacement.js";
import { ensureReady } from "../setup/index.js";
import type { GroupFlags } from "./joinGroup.js";
import { startProcesses } from "./startProcesses.js";
import { deviceOf } from "./trainingFlags.js";
import { asUsageError } from "./usageError.js";

/** A command line that asks for several processes. */
export interface SpawnedCommand {
  flags: GroupFlags;
  /** From the command's name on. */
  words: readonly string[];
  /** The run's folder, where the command line names none. */
  folder: string | null;
}

/**
 * `--multiprocessing-distributed` on a machine with several GPUs: starts this command once for each of them and waits for all, as upstream does.
 * To be called before this process listens for signals, which are the processes' to hear.
 *
 * @param machine default: this one, as libtorch sees it
 * @returns the exit code, or null where this process is to train itself
 * @throws UsageError for flags and variables that cannot be meant
 */
export async function startProcessPerGpu({ flags, words, folder }: SpawnedCommand, machine?: PlacementMachine): Promise<number | null> {
  if (!flags.multiprocessingDistributed) return null;
  await ensureReady();
  const { readPlacement } = await import("../distributed/index.js");
  const { cudaDeviceCount } = await import("../torch/index.js");
  try {
    const found = readPlacement(flags, launchVariables(), machine ?? { gpus: cudaDeviceCount(), device: deviceOf(flags) ?? null });
    if (found.kind !== "spawn") return null;
    const { processes, machines, machine: node, masterAddress, masterPort } = found.spawn;
    // The flags count machines; what a process has to know of its place is in its variables.
    return await startProcesses({ words, folder, processes, nodes: machines, node, masterAddress, masterPort, environment: { MOCO_SPAWNED: "1" } });
  } catch (error) {
    throw asUsageError(error);
  }
}
