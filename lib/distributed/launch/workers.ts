import { spawn, type ChildProcess } from "node:child_process";
import { prefixLines } from "./prefixLines.js";

/** The processes of one machine, as they are to be started. */
export interface WorkersPlan {
  command: string;
  words: readonly string[];
  /** Ranks among the processes of all machines, one for each process. */
  ranks: readonly number[];
  environment(rank: number): NodeJS.ProcessEnv;
}

/** How one of them ended. */
export interface WorkerEnd {
  rank: number;
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** The file descriptor on which a started process sees that its launcher is gone: it ends with the launcher. */
export const LIFELINE = 3;

/** How long output that is still on its way is waited for once a process has ended. */
const OUTPUT_MS = 1000;

/**
 * Processes that train together on this machine.
 *
 * Each leads a process group of its own, so that what it has started ends with it and a terminal's Ctrl-C reaches it only through the launcher,
 * once. Rank 0 has the launcher's standard output and error for itself, progress bar and all; the lines of the others go to standard error with
 * their rank in front.
 */
export class Workers {
  /** All have ended. */
  readonly ended: Promise<void>;
  readonly #running = new Map<number, ChildProcess>();

  constructor(plan: WorkersPlan, onEnd: (end: WorkerEnd) => void) {
    const ends = plan.ranks.map((rank) => this.#start(plan, rank, onEnd));
    this.ended = Promise.all(ends).then(() => undefined);
  }

  /** Process numbers, by rank, of those that run. */
  get pids(): Map<number, number> {
    return new Map([...this.#running].flatMap(([rank, { pid }]) => (pid === undefined ? [] : [[rank, pid]])));
  }

  /** Passes a signal on to the processes, not to what they have started. */
  signal(signal: NodeJS.Signals): void {
    for (const child of this.#running.values()) child.kill(signal);
  }

  /**
   * Ends what still runs: first waits whether it ends by itself, then asks it to (SIGTERM), then does not ask any more (SIGKILL).
   *
   * @param byItselfMs how long each process may take to notice that another one is gone, and to say so
   * @param graceMs how long it has after SIGTERM
   */
  async end(byItselfMs: number, graceMs: number): Promise<void> {
    if (await within(this.ended, byItselfMs)) return;
    this.signal("SIGTERM");
    if (await within(this.ended, graceMs)) return;
    for (const child of this.#running.values()) killGroup(child);
    await this.ended;
  }

  /** Ends everything at once. */
  kill(): void {
    for (const child of this.#running.values()) killGroup(child);
  }

  #start(plan: WorkersPlan, rank: number, onEnd: (end: WorkerEnd) => void): Promise<void> {
    const output = rank === 0 ? "inherit" : "pipe";
    const child = spawn(plan.command, plan.words, {
      detached: true, env: plan.environment(rank), stdio: ["ignore", output, output, "pipe"],
    });
    this.#running.set(rank, child);
    const told = [child.stdout, child.stderr].flatMap((stream) => (stream ? [prefixLines(stream, `[rank ${rank}] `, process.stderr)] : []));
    return new Promise((resolve) => {
      let over = false;
      const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (over) return;
        over = true;
        killGroup(child); // what it has started and left
        this.#running.delete(rank);
        void within(Promise.all(told), OUTPUT_MS).then(() => {
          onEnd({ rank, code, signal });
          resolve();
        });
      };
      child.on("exit", finish);
      child.on("error", (error) => {
        process.stderr.write(`[rank ${rank}] ${error.message}\n`);
        if (child.pid === undefined) finish(1, null);
      });
      child.stdio[LIFELINE]?.on("error", () => undefined); // it ended
    });
  }
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Whether something ends in time. */
export async function within(what: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([what.then(() => true as const), late]);
  } finally {
    clearTimeout(timer);
  }
}
