import { native, type CollectiveFacts } from "../native.js";

/** The processes did not come together. */
export class RendezvousError extends Error {
  override readonly name = "RendezvousError";
  /** @param missing ranks that did not come, where that is known */
  constructor(message: string, readonly missing: readonly number[], options?: ErrorOptions) {
    super(message, options);
  }
}

/** A collective did not end: a peer died or hangs, or the network failed. The process group cannot be used any more. */
export class CollectiveError extends Error {
  override readonly name = "CollectiveError";
  readonly rank: number;
  readonly step: number;
  readonly collective: string;
  readonly seconds: number;
  readonly timedOut: boolean;
  /** Ranks that are gone or hang, as far as that is known. */
  readonly silent: readonly number[];

  constructor(facts: CollectiveFacts) {
    super(sentence(facts));
    this.rank = facts.rank;
    this.step = facts.step;
    this.collective = facts.collective;
    this.seconds = facts.seconds;
    this.timedOut = facts.timedOut;
    this.silent = facts.silent;
  }
}

function sentence(facts: CollectiveFacts): string {
  const { rank, size, step, collective, seconds, timedOut, reason } = facts;
  const where = step < 0 ? "before the first step" : `at step ${step}`;
  const how = timedOut ? `did not end within ${seconds.toFixed(1)} s` : `broke after ${seconds.toFixed(1)} s`;
  return (
    `rank ${rank} of ${size}, ${where}: the collective "${collective}" ${how}. ${suspects(facts)} ` +
    `Look at that rank's own messages and machine, then start again from the last checkpoint (${reason.split("\n")[0]})`
  );
}

function suspects({ storeLost, silent, size }: CollectiveFacts): string {
  if (storeLost) return "The store does not answer: rank 0, or the launcher that serves it, is gone or hangs.";
  if (silent.length === 0) return "All ranks still answer: the network between them failed for a while, or they do not call the same collectives.";
  const named = silent.length === 1 ? `rank ${silent[0]} is` : `ranks ${silent.join(", ")} are`;
  return `Of ${size} ranks, ${named} gone or hanging.`;
}

native.setCollectiveError((facts) => new CollectiveError(facts));
