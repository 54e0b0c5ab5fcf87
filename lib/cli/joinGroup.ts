import { launchVariables } from "../config.js";
import type { ProcessGroup } from "../distributed/index.js";
import { deviceOf, type TrainingFlags } from "./trainingFlags.js";
import { UsageError } from "./usageError.js";

/** Flags that say with whom this process trains. */
export type GroupFlags =
  Pick<TrainingFlags, "worldSize" | "rank" | "distUrl" | "distBackend" | "distTimeout" | "multiprocessingDistributed" | "gpu" | "device">;

/**
 * Meets the processes that flags and variables name. Waits for them.
 *
 * @param onNote hears that several processes were to be expected, and are not there
 * @returns undefined for a training of this process alone
 * @throws PlacementError; RendezvousError where they do not come
 */
export async function joinGroup(flags: GroupFlags, onNote: (note: string) => void): Promise<ProcessGroup | undefined> {
  const { ProcessGroup, readPlacement } = await import("../distributed/index.js");
  const { cudaDeviceCount } = await import("../torch/index.js");
  const machine = { gpus: cudaDeviceCount(), device: deviceOf(flags) ?? null };
  const found = readPlacement(flags, launchVariables(), machine);
  if (found.kind === "alone") {
    if (found.note !== null) onNote(found.note);
    return undefined;
  }
  if (found.kind === "spawn") {
    const { processes } = found.spawn;
    throw new UsageError(
      `--multiprocessing-distributed asks for ${processes} processes, one for each GPU; start them with: moco launch --nproc ${processes} -- and the rest`,
    );
  }
  return ProcessGroup.join(found.placement, { timeoutMs: flags.distTimeout * 1000 });
}
