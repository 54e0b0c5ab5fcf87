/** What the launchers of several machines tell each other: JSON objects, one a line, over TCP. */

/** Machines' launchers understand each other only if this is the same. */
export const PROTOCOL = 1;

/** How a process ended that should not have. */
export interface Failure {
  rank: number;
  node: number;
  code: number | null;
  signal: string | null;
  /** It only noticed that another one had failed. */
  victim: boolean;
}

/** A start of all processes, for the first time or again. */
export interface Generation {
  /** Counts the starts. Processes of another one find nothing of theirs in the store. */
  number: number;
  /** Names this training; another launcher that takes over has another one. */
  run: string;
  /** Processes of all machines. */
  worldSize: number;
  /** The first rank on the machine that this is sent to. */
  firstRank: number;
  /** Where the store listens, on machine 0. */
  storePort: number;
  /** Words of the command line that follow from what machine 0 knows, the same for all. */
  words: string[];
}

/** From a machine to machine 0. */
export type MemberMessage =
  | { type: "join"; protocol: number; node: number; processes: number }
  | { type: "failed"; generation: number; failure: Failure }
  /** All processes of the machine have ended, as they should or not. */
  | { type: "ended"; generation: number; wellDone: boolean }
  /** The user or the scheduler wants the end: nothing is to be started again. */
  | { type: "interrupted"; signal: string }
  | { type: "ping" };

/** From machine 0 to a machine. */
export type CoordinatorMessage =
  | { type: "start"; generation: Generation }
  /** End what is left of this generation. */
  | { type: "stop"; generation: number }
  /** Nothing more will come. */
  | { type: "over"; code: number; reason: string | null }
  | { type: "ping" };

/**
 * Reads one line.
 *
 * @returns null for anything that is not such a message: it is from no launcher
 */
export function parseMessage<M extends { type: string }>(line: string): M | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && typeof (value as M).type === "string" ? (value as M) : null;
  } catch {
    return null;
  }
}

/** A failure in a sentence, as far as its process's end tells. */
export function tellFailure({ rank, code, signal, victim }: Failure): string {
  if (signal !== null) return `rank ${rank} was ended by ${signal}`;
  return victim ? `rank ${rank} noticed that another process had failed` : `rank ${rank} failed with exit code ${code}`;
}
