/** What the collectives run on: Gloo for tensors on CPUs, NCCL for those on NVIDIA GPUs. */
export type Backend = "gloo" | "nccl";

/** Where a process stands among those that train together. */
export interface Placement {
  /** Number of this process among all, from 0. */
  rank: number;
  /** How many processes train together. */
  worldSize: number;
  /** Number of this process among those on its machine, and how many they are. */
  localRank: number;
  localWorldSize: number;
  /** Number of this process's machine. */
  nodeRank: number;
  /** Name or address of the machine that rank 0 is on, as all others reach it, and the port of the store there. */
  masterAddress: string;
  masterPort: number;
  backend: Backend;
  /** The launcher hosts the store, and every rank is its client; otherwise rank 0 hosts it. */
  externalStore: boolean;
  /** Begins the names of the store's keys, so that a restart does not meet what an earlier start left in it. */
  generation: string;
}

/** A placement that cannot be. */
export class PlacementError extends Error {
  override readonly name = "PlacementError";
}

/** @throws {PlacementError} that names the value and its range */
export function checkPlacement(placement: Placement): void {
  const { rank, worldSize, masterAddress, masterPort, backend } = placement;
  if (!Number.isInteger(worldSize) || worldSize < 1) {
    throw new PlacementError(`worldSize is ${worldSize}; it is the number of processes, a whole number from 1`);
  }
  if (!Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
    throw new PlacementError(`rank is ${rank}; with a worldSize of ${worldSize} it is a whole number from 0 to ${worldSize - 1}`);
  }
  if (!Number.isInteger(masterPort) || masterPort < 1 || masterPort > 65535) {
    throw new PlacementError(`masterPort is ${masterPort}; it is a whole number from 1 to 65535, the same on all ranks`);
  }
  if (masterAddress === "") throw new PlacementError("masterAddress is empty; give the name or address of the machine that rank 0 is on");
  if (backend !== "gloo" && backend !== "nccl") {
    throw new PlacementError(`backend is ${JSON.stringify(backend)}; use "gloo" for CPUs or "nccl" for NVIDIA GPUs`);
  }
}
