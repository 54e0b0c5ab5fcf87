import { constants } from "node:os";

/** A process noticed that another one had died or hung: "temporary failure", as sysexits.h calls it. Trying again is what helps. */
export const EXIT_PEER_FAILED = 75;

/** The exit code that shells give for a process that a signal ended. */
export function exitCodeOf(signal: string): number {
  return 128 + ((constants.signals as Record<string, number>)[signal] ?? 0);
}
