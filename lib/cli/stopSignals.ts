import { constants } from "node:os";
import { listenForInterrupt } from "../train/runs/interrupt.js";
import { requeue } from "./requeue.js";

/** What a stopped process waits for after it has saved, such as an image that does not come, at most, in milliseconds. */
const EXIT_PATIENCE_MS = 3000;

/** A training, as a signal finds it. */
export interface Stoppable {
  /** Whether it has begun, so that there may be something to save. */
  readonly started: boolean;
  /** Tells the user something. */
  tell(line: string): void;
}

/** Flags that say which signals stop a run. */
export interface StopFlags {
  requeueSignal?: "USR1" | "USR2";
}

/** The wishes to stop that a command hears. */
export interface StopSignals extends Disposable {
  /** Aborted by the first signal; the reason is its name. */
  readonly signal: AbortSignal;
  /** What stopped a run, for a message: "by SIGTERM". */
  cause(reason: "interrupted" | "stop-after"): string;
  /** To be called once a stopped run has saved: has the job started again, where the signal asks for that. */
  stopped(): Promise<void>;
}

/**
 * Listens for Ctrl-C, SIGTERM and the signal of `--requeue-signal`. A run that has not begun has nothing to save: its process ends at once.
 *
 * @param current the training, once there is one
 */
export function listenForStop({ requeueSignal }: StopFlags, current: () => Stoppable | null): StopSignals {
  const asked = requeueSignal === undefined ? null : (`SIG${requeueSignal}` as const);
  const tell = (line: string): void => {
    const run = current();
    if (run === null) process.stderr.write(`${line}\n`);
    else run.tell(line);
  };
  const stopped = async (): Promise<void> => {
    if (interrupt.signal.reason !== asked) return;
    const answer = await requeue();
    if (answer !== null) tell(answer);
  };
  const endAtOnce = (signal: NodeJS.Signals): void => {
    tell(`${signal}: nothing is trained yet, so there is nothing to save.`);
    const fail = (error: unknown): void => {
      tell(`error: ${(error as Error).message}`);
      process.exitCode = 1;
    };
    void stopped().catch(fail).finally(() => {
      // By hand: a job that another signal than the requeuing one ends is not done.
      process.exit(process.exitCode ?? (signal === asked ? 0 : 128 + constants.signals[signal]));
    });
  };
  const interrupt = listenForInterrupt((signal) => {
    if (current()?.started !== true) endAtOnce(signal);
    else tell(`${signal}: finishing this step, then saving.${signal === asked ? "" : " Ctrl-C again quits at once."}`);
  }, asked === null ? [] : [asked]);
  return {
    signal: interrupt.signal,
    cause: (reason) => {
      if (reason === "stop-after") return "as --stop-after asks";
      return `by ${interrupt.signal.aborted ? String(interrupt.signal.reason) : "another process"}`;
    },
    stopped,
    [Symbol.dispose]: () => {
      interrupt.dispose();
      if (interrupt.signal.aborted) setTimeout(() => process.exit(), EXIT_PATIENCE_MS).unref();
    },
  };
}
