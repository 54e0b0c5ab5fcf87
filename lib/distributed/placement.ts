/** Where a process stands among those that train together. */
export interface Placement {
  /** This process among all, from 0. */
  rank: number;
  worldSize: number;
  /** This process among those of its machine, from 0. */
  localRank: number;
  localWorldSize: number;
  /** This machine among all, from 0. */
  nodeRank: number;
  /** Where the store is that all meet at: on rank 0's machine. */
  masterAddress: string;
  masterPort: number;
  backend: "gloo" | "nccl";
  /** The launcher hosts the store: every rank is a client. */
  externalStore: boolean;
  /** Prefix of the store's keys: tells a restarted training from the one before it. */
  generation: string;
}

/** The flags and variables that say who trains with whom are incomplete, or contradict each other. */
export class PlacementError extends Error {
  override readonly name = "PlacementError";
}
