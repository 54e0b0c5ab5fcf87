/** What of a machine and of a batch is a rank's share. */
import { availableParallelism } from "node:os";
import { deviceOfMember, type ProcessGroup } from "../../distributed/index.js";
import * as torch from "../../torch/index.js";
import { OptionError } from "../options.js";

/** The device of a rank whose user chose none; undefined without a group. */
export function deviceOfRank(group: ProcessGroup | undefined): string | undefined {
  return group === undefined ? undefined : deviceOfMember(group.placement, torch.cudaDeviceCount());
}

/** Cores for each of the ranks of this machine. */
export function coresOfRank(group: ProcessGroup | undefined): number {
  return Math.max(1, Math.floor(availableParallelism() / (group?.placement.localWorldSize ?? 1)));
}

/**
 * All ranks have the same part of a batch: queries find their keys among those of all by it.
 *
 * @throws OptionError with the nearest sizes
 */
export function requireDivisible(name: string, size: number, group: ProcessGroup | undefined): void {
  const ranks = group?.size ?? 1;
  const below = size - (size % ranks);
  if (below === size) return;
  const nearest = below === 0 ? String(ranks) : `${below} or ${below + ranks}`;
  throw new OptionError(`${name} is ${size}, which ${ranks} processes cannot share evenly; give ${nearest}`);
}
