import { fork, type ChildProcess } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach } from "@jest/globals";
import type { JoinOptions, Placement } from "../../lib/distributed/index.js";

/** What a process that is one rank is asked to do: `task` is an export of `module`. */
export interface RankOrder {
  module: string;
  task: string;
  placement: Placement;
  options: JoinOptions;
  argument: unknown;
}

/** How a rank ended: what its task returned, or what it threw. */
export interface RankEnd<T> {
  value?: T;
  error?: { name: string; message: string; facts: Record<string, unknown> };
  signal: NodeJS.Signals | null;
}

const child = fileURLToPath(new URL("./rankProcess.js", import.meta.url));
const running = new Set<ChildProcess>();

/** Ends every rank that a test left behind, stopped ones too. */
function endAll(): void {
  for (const each of running) each.kill("SIGKILL");
  running.clear();
}

/** A port of loopback that is free now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** A placement on this machine. */
export function loopback(rank: number, worldSize: number, masterPort: number, changes: Partial<Placement> = {}): Placement {
  return {
    rank, worldSize, localRank: rank, localWorldSize: worldSize, nodeRank: 0, masterAddress: "127.0.0.1", masterPort,
    backend: "gloo", externalStore: false, generation: "0", ...changes,
  };
}

/** One process that does one order; resolves when it has ended. `onStart` is given the process, to end or stop it from outside. */
export function startRank<T>(order: RankOrder, onStart: (process: ChildProcess) => void = () => {}): Promise<RankEnd<T>> {
  const rank = fork(child, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  running.add(rank);
  onStart(rank);
  return new Promise((resolve) => {
    let told: Partial<RankEnd<T>> = {};
    rank.on("message", (message) => (told = message as Partial<RankEnd<T>>));
    rank.on("exit", (_code, signal) => {
      running.delete(rank);
      resolve({ ...told, signal });
    });
    rank.send(order);
  });
}

/**
 * Runs an exported function of a module, `(group, argument) => value`, in processes that form a group on loopback, and answers their ends by
 * rank. Processes that still run after the test are killed.
 */
export async function runRanks<T>(
  worldSize: number, module: string, task: string, argument: unknown = null, options: JoinOptions = { timeoutMs: 30_000 },
): Promise<RankEnd<T>[]> {
  const port = await freePort();
  return Promise.all(
    Array.from({ length: worldSize }, (_, rank) => startRank<T>({ module, task, placement: loopback(rank, worldSize, port), options, argument })),
  );
}

/** As {@link runRanks}, where all must return: their values by rank. */
export async function valuesOfRanks<T>(worldSize: number, module: string, task: string, argument: unknown = null): Promise<T[]> {
  const ends = await runRanks<T>(worldSize, module, task, argument);
  return ends.map(({ value, error, signal }, rank) => {
    if (error !== undefined) throw new Error(`rank ${rank}: ${error.name}: ${error.message}`);
    if (signal !== null) throw new Error(`rank ${rank} ended with ${signal}`);
    return value as T;
  });
}

afterEach(endAll);
afterAll(endAll);
