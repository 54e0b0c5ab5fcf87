import pc from "picocolors";
import { launchVariables } from "../config.js";
import type { ProcessGroup } from "../distributed/index.js";
import { deviceOf, type TrainingFlags } from "./trainingFlags.js";
import { asUsageError } from "./usageError.js";

/** Flags that say with whom this process trains. */
export type GroupFlags =
  Pick<TrainingFlags, "worldSize" | "rank" | "distUrl" | "distBackend" | "distTimeout" | "multiprocessingDistributed" | "gpu" | "device">;

/**
 * Meets the processes that flags and variables name. Waits for them.
 *
 * @returns undefined for a training of this process alone
 * @throws UsageError for flags and variables that cannot be meant; RendezvousError where the processes do not come
 */
export async function joinGroup(flags: GroupFlags): Promise<ProcessGroup | undefined> {
  try {
    return await join(flags);
  } catch (error) {
    throw asUsageError(error);
  }
}

async function join(flags: GroupFlags): Promise<ProcessGroup | undefined> {
  const { ProcessGroup, readPlacement } = await import("../distributed/index.js");
  const { cudaDeviceCount } = await import("../torch/index.js");
  const machine = { gpus: cudaDeviceCount(), device: deviceOf(flags) ?? null };
  const found = readPlacement(flags, launchVariables(), machine);
  if (found.kind === "alone") {
    if (found.note !== null) process.stderr.write(`${pc.yellow("warning:")} ${found.note}\n`);
    return undefined;
  }
  if (found.kind === "spawn") throw new Error("a process for each GPU has to be started first (startProcessPerGpu)");
  return ProcessGroup.join(found.placement, { timeoutMs: flags.distTimeout * 1000 });
}
