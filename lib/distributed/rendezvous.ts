import { setTimeout as pause } from "node:timers/promises";
import * as torch from "../torch/index.js";
import { RendezvousError } from "./errors.js";
import type { Placement } from "./placement.js";
import type { Store } from "./store.js";

/** What must be the same for all that meet. */
interface Member {
  worldSize: number;
  backend: string;
  libtorch: string;
}

/** How often waiting looks who has come. */
const LOOK_AGAIN_MS = 20;

/**
 * Waits in the store until every rank has come.
 *
 * @throws {RendezvousError} that names the ranks which did not come in time, came twice, or disagree
 */
export async function meet(store: Store, placement: Placement, timeoutMs: number): Promise<void> {
  const { rank, worldSize, backend, masterAddress, masterPort } = placement;
  const place = `${masterAddress}:${masterPort}`;
  if (store.add(`claim/${rank}`, 1) > 1) {
    throw new RendezvousError(`there is a rank ${rank} at ${place} already: give each process another rank, or wait for an earlier run to end`, []);
  }
  const self: Member = { worldSize, backend, libtorch: torch.version().libtorch };
  store.set(`member/${rank}`, JSON.stringify(self));
  const end = Date.now() + timeoutMs;
  const missing = new Set(Array.from({ length: worldSize }, (_, other) => other));
  while (missing.size > 0) {
    for (const other of missing) {
      const told = store.get(`member/${other}`);
      if (told === null) continue;
      requireSame(rank, self, other, JSON.parse(told) as Member);
      missing.delete(other);
    }
    if (missing.size > 0 && Date.now() >= end) throw absent(place, [...missing], placement, timeoutMs);
    if (missing.size > 0) await pause(LOOK_AGAIN_MS);
  }
}

function requireSame(rank: number, self: Member, other: number, theirs: Member): void {
  for (const what of ["worldSize", "backend", "libtorch"] as const) {
    if (self[what] === theirs[what]) continue;
    throw new RendezvousError(
      `rank ${rank} has the ${what} ${self[what]} and rank ${other} has ${theirs[what]}: start all ranks with the same one`, [],
    );
  }
}

function absent(place: string, missing: readonly number[], { rank, worldSize }: Placement, timeoutMs: number): RendezvousError {
  const named = missing.length === 1 ? `rank ${missing[0]}` : `ranks ${missing.join(", ")}`;
  return new RendezvousError(
    `rank ${rank} waited ${(timeoutMs / 1000).toFixed(1)} s at ${place} for ${worldSize} ranks, and ${named} did not come: ` +
      "start them, with the same address, port and world size, or look at their messages",
    missing,
  );
}
