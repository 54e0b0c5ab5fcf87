import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkpointsIn } from "../../../lib/train/runs/checkpointFiles.js";
import type { LauncherTask } from "./launcher.js";
import { Machine, type Line } from "./machine.js";

/** What is done to a training, in rotation. */
export const FAULTS = [
  "SIGKILL of a rank", "SIGSTOP of a rank", "network cut", "SIGKILL of rank 0", "SIGSTOP of rank 0", "SIGKILL of machine 1's launcher",
  "network cut", "SIGKILL of machine 0's launcher",
] as const;
export type Fault = (typeof FAULTS)[number];

/** Processes on each of the two machines. */
export const SPLITS = [[1, 1], [2, 1], [2, 2]] as const;

/** Two machines: what runs a command on each, and what they do to their networks. */
export interface Hosts {
  address(machine: number): string;
  on(machine: number, words: readonly string[]): string[];
}

export interface DisturbanceOptions {
  hosts: Hosts;
  fault: Fault | null;
  split: readonly [number, number];
  watchdogSeconds: number;
  folder: string;
  data: string;
  epochs: number;
  paceMs: number;
  /** After so many steps. */
  atStep: number;
  /** Number that says which rank it is. */
  draw: number;
}

export interface Disturbance {
  fault: Fault | null;
  processes: number;
  watchdogSeconds: number;
  atStep: number;
  /** Until the last of those that were left had said so, or null where one did not. */
  noticedSeconds: number | null;
  /** What each of them said. */
  messages: string[];
  /** Steps that the checkpoint had from which it went on. */
  wentOnFrom: number | null;
  /** How often it was started again: once, where a slow machine is not taken for a dead one on top. */
  restarts: number;
  seconds: number;
  checkpoint: string;
  violations: string[];
}

const PORT = 29_400;
/** All have to notice a fault in this time. */
const NOTICED_MS = 60_000;
const PATIENCE_MS = 240_000;
const SENTENCE = /rank (\d+) of \d+, (?:at step (\d+)|before the first step)(?::|,) (?:in )?(?:after )?the collective "([^"]+)"/;

/** Trains with two machines, does one thing to them, and looks whether the training comes to the end that it would have had. */
export async function disturb(options: DisturbanceOptions): Promise<Disturbance> {
  const { hosts, fault, split, watchdogSeconds, folder, data, epochs, paceMs, atStep, draw } = options;
  const began = performance.now();
  const out = join(folder, "run");
  const processes = join(folder, "processes");
  mkdirSync(processes, { recursive: true });
  const start = (node: number): Machine => {
    const task: LauncherTask = {
      node, nodes: 2, processes: split[node]!, masterAddress: hosts.address(0), masterPort: PORT, task: { data, out, processes, epochs, paceMs },
    };
    return new Machine((words) => hosts.on(node, words), task, watchdogSeconds);
  };
  const machines = [start(0), start(1)];
  const everyMachine = [...machines];
  const violations: string[] = [];
  const ranks = split[0] + split[1];
  let noticed: { seconds: number | null; messages: string[] } = { seconds: null, messages: [] };
  let before = 0;
  try {
    if (fault !== null) {
      if (!(await until(() => steps(out) >= atStep, PATIENCE_MS))) throw new Error(`the training did not come to step ${atStep}: ${tail(everyMachine)}`);
      const pids = running(processes);
      const victims = fault.endsWith("a rank") ? [1 + (draw % (ranks - 1))] : fault.endsWith("rank 0") ? [0] : [];
      const lostNode = fault.endsWith("machine 0's launcher") ? 0 : fault.endsWith("machine 1's launcher") ? 1 : null;
      const dead = lostNode === null ? victims : ranksOf(lostNode, split);
      const at = performance.now();
      for (const rank of victims) process.kill(pids.get(rank)!, fault.startsWith("SIGKILL") ? "SIGKILL" : "SIGSTOP");
      if (lostNode !== null) machines[lostNode]!.kill();
      if (fault === "network cut") setLink(hosts, "down");
      const survivors = Array.from({ length: ranks }, (_, rank) => rank).filter((rank) => !dead.includes(rank));
      await until(() => sentences(everyMachine, at, survivors).length === survivors.length, NOTICED_MS + 10_000);
      const said = sentences(everyMachine, at, survivors);
      noticed = {
        seconds: said.length === survivors.length ? Math.max(...said.map((line) => line.at - at)) / 1000 : null, messages: said.map(({ text }) => text),
      };
      // A stopped process is ended by its launcher, the others by themselves.
      await until(() => [...pids.values()].every((pid) => !isAlive(pid)), NOTICED_MS);
      for (const [rank, pid] of pids) if (isAlive(pid)) violations.push(`rank ${rank} of the first start still runs`);
      before = lastSaved(out);
      if (fault === "network cut") setLink(hosts, "up");
      if (lostNode !== null) everyMachine.push(machines[lostNode] = start(lostNode));
    }
    const over = Promise.all(machines.map(({ ended }) => ended));
    const codes = await Promise.race([over, sleep(PATIENCE_MS, null, { ref: false })]);
    if (codes?.join() !== "0,0") violations.push(`the launchers ended with ${codes?.join() ?? "nothing"}: ${tail(everyMachine)}`);
  } finally {
    for (const machine of everyMachine) machine.kill();
    await until(() => allPids(processes).every((pid) => !isAlive(pid)), 5000);
    for (const pid of allPids(processes)) {
      if (!isAlive(pid)) continue;
      violations.push("a process is left behind");
      process.kill(pid, "SIGKILL");
    }
  }
  const starts = runEntries(out);
  const wentOnFrom = starts[1] ?? null;
  if (fault !== null) {
    if (noticed.seconds === null) violations.push(`not all have said so: ${tail(everyMachine)}`);
    else if (noticed.seconds * 1000 > NOTICED_MS) violations.push(`noticed only after ${noticed.seconds} s`);
    if (wentOnFrom !== before) violations.push(`it went on from step ${wentOnFrom}, but ${before} were saved`);
  }
  const last = checkpointsIn(out).at(-1);
  const checkpoint = last === undefined ? "none" : `${last} ${createHash("sha256").update(readFileSync(join(out, last))).digest("hex")}`;
  return {
    fault, processes: ranks, watchdogSeconds, atStep, noticedSeconds: noticed.seconds, messages: noticed.messages, wentOnFrom,
    restarts: starts.length - 1,
    seconds: (performance.now() - began) / 1000, checkpoint, violations,
  };
}

function setLink(hosts: Hosts, state: "up" | "down"): void {
  const [command, ...words] = hosts.on(1, ["ip", "link", "set", "eth0", state]);
  execFileSync(command!, words);
}

function ranksOf(node: number, split: readonly [number, number]): number[] {
  return Array.from({ length: split[node]! }, (_, i) => i + (node === 0 ? 0 : split[0]));
}

/** The first sentence of each of these ranks that says who failed, where it stood, and in which collective. */
function sentences(machines: readonly Machine[], since: number, ranks: readonly number[]): Line[] {
  const lines = machines.flatMap((machine) => machine.lines).filter(({ at, text }) => at >= since && SENTENCE.test(text));
  return ranks.flatMap((rank) => lines.find(({ text }) => Number(SENTENCE.exec(text)![1]) === rank) ?? []);
}

function logEntries(out: string): { kind: string; step?: number; steps?: number; firstStep?: number }[] {
  const log = join(out, "log.jsonl");
  if (!existsSync(log)) return [];
  return readFileSync(log, "utf8").split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line) as { kind: string }];
    } catch {
      return []; // half a line of a process that was killed
    }
  });
}

function steps(out: string): number {
  return Math.max(0, ...logEntries(out).flatMap(({ kind, step }) => (kind === "step" ? step! + 1 : [])));
}

function runEntries(out: string): number[] {
  return logEntries(out).flatMap(({ kind, firstStep }) => (kind === "run" ? firstStep! : []));
}

/** Steps of the furthest checkpoint, of epochs of five steps. */
function lastSaved(out: string): number {
  const match = /checkpoint_(\d+)(?:_step_(\d+))?/.exec(checkpointsIn(out).at(-1) ?? "");
  if (match === null) return 0;
  return match[2] === undefined ? (Number(match[1]) + 1) * STEPS_PER_EPOCH : Number(match[1]) * STEPS_PER_EPOCH + Number(match[2]);
}

/** Of 60 images in batches of 12. */
export const STEPS_PER_EPOCH = 5;

/** Process numbers by rank of the latest start. */
function running(processes: string): Map<number, number> {
  const names = readdirSync(processes).map((name) => name.split("-") as [string, string, string]);
  const latest = Math.max(...names.map(([, start]) => Number(start)));
  return new Map(names.filter(([, start]) => Number(start) === latest).map((parts) => [Number(parts[2]), pidIn(processes, parts.join("-"))]));
}

function allPids(processes: string): number[] {
  return readdirSync(processes).map((name) => pidIn(processes, name));
}

function pidIn(processes: string, name: string): number {
  return Number(readFileSync(join(processes, name), "utf8"));
}

/** Neither gone nor a zombie, which only waits to be asked how it ended. */
function isAlive(pid: number): boolean {
  try {
    return !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

async function until(condition: () => boolean, ms: number): Promise<boolean> {
  for (const end = performance.now() + ms; performance.now() < end; await sleep(50)) if (condition()) return true;
  return condition();
}

function tail(machines: readonly Machine[]): string {
  return machines.map(({ lines }) => lines.slice(-4).map(({ text }) => text).join(" | ")).join(" || ");
}
