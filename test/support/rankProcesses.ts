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
  /** The process keeps its group and waits for another order. */
  stays?: boolean;
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

/** Ranks that have done what they were told and wait for more, by their number: most of a short task's time is the start of its processes. */
const staying = new Map<number, { ranks: ChildProcess[]; port: number }>();

/**
 * As {@link runRanks}, where all must return: their values by rank. Processes and group are kept for the next call with as many ranks, so a task
 * must leave the group as it finds it.
 */
export async function valuesOfRanks<T>(worldSize: number, module: string, task: string, argument: unknown = null): Promise<T[]> {
  if (!staying.has(worldSize)) staying.set(worldSize, { ranks: Array.from({ length: worldSize }, startStaying), port: await freePort() });
  const { ranks, port } = staying.get(worldSize)!;
  const ends = await Promise.all(ranks.map((rank, i) => {
    return nextEnd<T>(rank, { module, task, placement: loopback(i, worldSize, port), options: { timeoutMs: 30_000 }, argument, stays: true });
  }));
  return ends.map(({ value, error, signal }, rank) => {
    if (error === undefined && signal === null) return value as T;
    endStaying(worldSize);
    throw new Error(error === undefined ? `rank ${rank} ended with ${signal}` : `rank ${rank}: ${error.name}: ${error.message}`);
  });
}

function startStaying(): ChildProcess {
  // Its watchdog would take the time between two tasks for a rank that hangs.
  return fork(child, { stdio: ["ignore", "inherit", "inherit", "ipc"], env: { ...process.env, MOCO_WATCHDOG_SECONDS: "0" } });
}

function nextEnd<T>(rank: ChildProcess, order: RankOrder): Promise<RankEnd<T>> {
  return new Promise((resolve) => {
    const told = (message: unknown): void => finish({ ...(message as Partial<RankEnd<T>>), signal: null });
    const exited = (_code: number | null, signal: NodeJS.Signals | null): void => finish({ signal: signal ?? "SIGABRT" });
    const finish = (end: RankEnd<T>): void => {
      rank.off("message", told).off("exit", exited);
      resolve(end);
    };
    rank.on("message", told).on("exit", exited);
    rank.send(order);
  });
}

function endStaying(worldSize: number): void {
  for (const rank of staying.get(worldSize)?.ranks ?? []) rank.kill("SIGKILL");
  staying.delete(worldSize);
}

afterEach(endAll);
afterAll(() => {
  endAll();
  for (const worldSize of [...staying.keys()]) endStaying(worldSize);
});
