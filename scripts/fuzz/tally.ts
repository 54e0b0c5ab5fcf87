import type { Outcome } from "./examine.js";

/** Counts of outcomes. */
export interface Tally {
  inputs: number;
  /** By how far an input got. */
  depths: Record<string, number>;
  /** By kind of error, "value" among them. */
  kinds: Record<string, number>;
}

export function emptyTally(): Tally {
  return { inputs: 0, depths: {}, kinds: {} };
}

export function count(tally: Tally, { depth, kind }: Outcome): void {
  tally.inputs++;
  tally.depths[depth] = (tally.depths[depth] ?? 0) + 1;
  tally.kinds[kind] = (tally.kinds[kind] ?? 0) + 1;
}

/** Adds `other` to `tally`. */
export function addTally(tally: Tally, other: Tally): void {
  tally.inputs += other.inputs;
  for (const field of ["depths", "kinds"] as const) {
    for (const [key, value] of Object.entries(other[field])) tally[field][key] = (tally[field][key] ?? 0) + value;
  }
}

/** Largest first. */
export function sorted(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).sort(([, a], [, b]) => b - a));
}
