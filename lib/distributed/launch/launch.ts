import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { childEnvironment } from "../../config.js";
import { Coordinator, type LaunchStore } from "./coordinator.js";
import { EXIT_PEER_FAILED } from "./exitCodes.js";
import { Member } from "./member.js";
import type { Generation } from "./messages.js";
import { Workers } from "./workers.js";

export interface LaunchOptions {
  /** What each process runs, and the words that are the same at every start. */
  command: string;
  words: readonly string[];
  /** Further words for the n-th start, asked on machine 0 and the same for all. Default: none. */
  startWords?(start: number): string[];
  /** Processes of this machine. */
  processes: number;
  /** Further variables of theirs. Default: none. */
  environment?: Readonly<Record<string, string>>;
  /** Machines. Default 1. */
  nodes?: number;
  /** This machine, from 0. Default 0. */
  node?: number;
  /** Of machine 0, where the launchers and the processes of all machines meet. Default: this machine, a free port. */
  masterAddress?: string;
  masterPort?: number;
  /** How often everything is started again after a failure. Default 0. */
  maxRestarts?: number;
  /** Silence after which a machine counts as lost, in milliseconds. Default: {@link silenceFor} the watchdog's default. */
  silenceMs?: number;
  /** How long machines are waited for, at the beginning and before a restart. Default 10 minutes. */
  gatherMs?: number;
  /** How long a process that is to end has between SIGTERM and SIGKILL. Default 10 s. */
  graceMs?: number;
  /** How long a process may take, after another one has failed, to notice it by itself and say so. Default 5 s. */
  byItselfMs?: number;
  /** Makes the store where the processes meet; called on machine 0 only. */
  createStore(): Promise<LaunchStore>;
  log(line: string): void;
}

/**
 * How long a machine may be silent: longer than one process may to another and the time in which those speak, so that they say which process
 * failed, at which step and in which collective, before their launchers end them.
 *
 * @param watchdogSeconds the processes' own limit
 * @returns milliseconds
 */
export function silenceFor(watchdogSeconds: number): number {
  return 1000 * watchdogSeconds + 15_000;
}

/**
 * Starts the processes of a distributed training on this machine, together with the launchers of the other machines, and watches over them:
 * signals are passed on, the failure of one process ends all, and a training that failed is started again as often as `maxRestarts` says.
 *
 * @returns the exit code of the launch: 0, or that of the first process that failed (128 and the signal's number where one ended it)
 */
export async function launch(options: LaunchOptions): Promise<number> {
  const { processes, nodes = 1, node = 0, maxRestarts = 0, silenceMs = silenceFor(30), gatherMs = 600_000, log } = options;
  const address = options.masterAddress ?? "127.0.0.1";
  const store = node === 0 ? await options.createStore() : null;
  let coordinator: Coordinator | null = null;
  let port = options.masterPort ?? 0;
  try {
    if (store !== null) {
      const run = randomBytes(6).toString("hex");
      const words = options.startWords ?? ((): string[] => []);
      coordinator = new Coordinator({ nodes, maxRestarts, silenceMs, gatherMs, run, store, words, log });
      port = await coordinator.listen(port, nodes === 1 ? address : undefined);
    }
    const member = new Member({
      node, processes, port, maxRestarts, silenceMs, gatherMs, log,
      address: node === 0 && nodes > 1 ? "127.0.0.1" : address,
      graceMs: options.graceMs ?? 10_000,
      byItselfMs: options.byItselfMs ?? 5000,
      victimCode: EXIT_PEER_FAILED,
      start: (generation, onEnd) => new Workers({
        command: options.command,
        words: [...options.words, ...generation.words],
        ranks: Array.from({ length: processes }, (_, i) => generation.firstRank + i),
        environment: (rank) => ({ ...workerEnvironment(generation, { rank, node, processes, address, maxRestarts }), ...options.environment }),
      }, onEnd),
    });
    const release = passSignalsOn(member);
    try {
      await member.join();
      return await member.outcome;
    } finally {
      release();
    }
  } finally {
    coordinator?.close();
    store?.close();
  }
}

/** torchrun's variables, so that a process cannot tell, and need not care, who has started it. */
function workerEnvironment(
  { number, run, worldSize, firstRank, storePort }: Generation,
  { rank, node, processes, address, maxRestarts }: { rank: number; node: number; processes: number; address: string; maxRestarts: number },
): NodeJS.ProcessEnv {
  const threads = Math.max(1, Math.floor(availableParallelism() / processes));
  const ours = childEnvironment();
  return childEnvironment({
    RANK: `${rank}`,
    WORLD_SIZE: `${worldSize}`,
    LOCAL_RANK: `${rank - firstRank}`,
    LOCAL_WORLD_SIZE: `${processes}`,
    GROUP_RANK: `${node}`,
    MASTER_ADDR: address,
    MASTER_PORT: `${storePort}`,
    TORCHELASTIC_USE_AGENT_STORE: "True",
    TORCHELASTIC_RUN_ID: run,
    TORCHELASTIC_RESTART_COUNT: `${number}`,
    TORCHELASTIC_MAX_RESTARTS: `${maxRestarts}`,
    // They share the machine's cores.
    OMP_NUM_THREADS: ours.OMP_NUM_THREADS ?? `${threads}`,
    MOCO_LAUNCHED: "1",
  });
}

function passSignalsOn(member: Member): () => void {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const; // the last two as --requeue-signal has them
  const passOn = (signal: NodeJS.Signals): void => member.interrupt(signal === "SIGHUP" ? "SIGTERM" : signal);
  const atExit = (): void => member.kill();
  for (const signal of signals) process.on(signal, passOn);
  process.on("exit", atExit);
  return () => {
    for (const signal of signals) process.off(signal, passOn);
    process.off("exit", atExit);
  };
}
