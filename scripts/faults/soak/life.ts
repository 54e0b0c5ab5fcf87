import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { temporaryOwner } from "../../../lib/checkpoint/files/temporaryFile.js";
import { childEnvironment } from "../../../lib/config.js";

/** How a life is ended: `power` is a kill after which the disk forgets what was not fsynced. */
export const STOPS = ["SIGKILL", "SIGTERM", "SIGINT", "power"] as const;
export type Stop = (typeof STOPS)[number];

/** What a process was at when it was stopped, as far as its folder tells. */
export type Phase = "start-up" | "training" | "saving" | "ending";

/** How one process lived. */
export interface Life {
  code: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
  /** Null for one that came to its end by itself. */
  stop: Stop | null;
  phase: Phase | null;
  seconds: number;
  /** From the signal to the end of the process. */
  secondsToStop: number | null;
}

/** A process that does not end is given up after so long, in milliseconds. */
const PATIENCE_MS = 120_000;

/**
 * Runs `moco` in a process group of its own, and stops it after a time.
 *
 * @param afterMs null to let it live
 */
export async function live(
  nodeArguments: readonly string[], words: readonly string[], out: string, stop: Stop | null, afterMs: number,
): Promise<Life> {
  const script = fileURLToPath(new URL("./tinyMoco.js", import.meta.url));
  const linesBefore = logLines(out);
  const started = performance.now();
  const child = spawn(process.execPath, [...nodeArguments, script, ...words], {
    stdio: ["ignore", "ignore", "pipe"], detached: true, env: childEnvironment({ OMP_NUM_THREADS: undefined }),
  });
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  let phase: Phase | null = null;
  let stopped: number | null = null;
  const group = (signal: NodeJS.Signals): void => {
    try {
      process.kill(-child.pid!, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  };
  const timers = [setTimeout(() => group("SIGKILL"), PATIENCE_MS)];
  if (stop !== null) {
    timers.push(setTimeout(() => {
      stopped = performance.now();
      phase = phaseOf(out, linesBefore, child.pid!);
      group(stop === "power" ? "SIGKILL" : stop);
    }, afterMs));
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      timers.forEach(clearTimeout);
      const ended = performance.now();
      resolve({
        code, signal, stderr, stop: stopped === null ? null : stop, phase, seconds: (ended - started) / 1000,
        secondsToStop: stopped === null ? null : (ended - stopped) / 1000,
      });
    });
  });
}

function logLines(out: string): number {
  const path = join(out, "log.jsonl");
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").length : 0;
}

function phaseOf(out: string, linesBefore: number, pid: number): Phase {
  if (existsSync(out) && readdirSync(out).some((name) => temporaryOwner(name)?.pid === pid)) return "saving";
  const path = join(out, "log.jsonl");
  if (!existsSync(path)) return "start-up";
  const lines = readFileSync(path, "utf8").split("\n").slice(Math.max(0, linesBefore - 1));
  if (lines.some((line) => line.startsWith('{"kind":"end"'))) return "ending";
  return lines.some((line) => line.startsWith('{"kind":"run"')) ? "training" : "start-up";
}
