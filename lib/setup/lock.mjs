// @ts-check
// Plain JavaScript, because scripts/bootstrap.mjs needs it before anything is compiled or installed.
import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 200;
const HEARTBEAT_MS = 10_000;
// A holder on another machine (a shared home folder) cannot be asked whether it lives; its heartbeat tells.
const SILENCE_MS = 300_000;

/**
 * Runs `work` while holding the lock `file`; other processes wait their turn. A lock whose process is gone is taken over.
 *
 * @template T
 * @param {string} file the lock file; its folder is made
 * @param {() => Promise<T> | T} work
 * @param {{ onWait?: (holder: string) => void }} [options] `onWait` is called once if another process holds the lock
 * @returns {Promise<T>}
 */
export async function withLock(file, work, options = {}) {
  mkdirSync(dirname(file), { recursive: true });
  const token = JSON.stringify({ pid: process.pid, host: hostname(), started: startOf(process.pid), id: randomUUID() });
  let waiting = false;
  while (!create(file, token)) {
    if (isAbandoned(file)) {
      takeOver(file);
      continue;
    }
    if (!waiting) options.onWait?.(describeHolder(file));
    waiting = true;
    await sleep(POLL_MS);
  }
  const heartbeat = setInterval(() => touch(file), HEARTBEAT_MS);
  heartbeat.unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if (read(file) === token) rmSync(file, { force: true });
  }
}

/** @param {string} file @param {string} content */
function create(file, content) {
  try {
    writeFileSync(file, content, { flag: "wx" });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "EEXIST") return false;
    throw error;
  }
}

/** @param {string} file */
function isAbandoned(file) {
  const silence = ageOf(file);
  if (silence === null) return false;
  /** @type {{ pid?: number, host?: string, started?: string | null }} */
  let holder;
  try {
    holder = JSON.parse(read(file) ?? "");
  } catch {
    return silence > HEARTBEAT_MS; // created, but its writer died before it wrote
  }
  if (holder.host !== hostname() || typeof holder.pid !== "number") return silence > SILENCE_MS;
  // A process id is used again in time; the start time tells the two apart.
  return !isAlive(holder.pid) || (holder.started !== null && startOf(holder.pid) !== holder.started);
}

/**
 * Removes an abandoned lock. Two waiters may see it abandoned at once: only one may remove it, or the second would remove
 * the lock that the first has just made.
 * @param {string} file
 */
function takeOver(file) {
  const guard = `${file}.takeover`;
  if ((ageOf(guard) ?? 0) > HEARTBEAT_MS) rmSync(guard, { force: true });
  if (!create(guard, String(process.pid))) return;
  try {
    if (isAbandoned(file)) rmSync(file, { force: true });
  } finally {
    rmSync(guard, { force: true });
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === "EPERM";
  }
}

/** When a process started, in the kernel's own ticks; `null` where /proc does not tell. @param {number} pid */
function startOf(pid) {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The command name, in parentheses, may hold spaces; field 22 is the twentieth after it.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}

/** @param {string} file */
function describeHolder(file) {
  try {
    const { pid, host } = JSON.parse(read(file) ?? "");
    return `process ${pid}${host === hostname() ? "" : ` on ${host}`}`;
  } catch {
    return "another process";
  }
}

/** @param {string} file */
function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

/** @param {string} file */
function ageOf(file) {
  try {
    return Date.now() - statSync(file).mtimeMs;
  } catch {
    return null;
  }
}

/** @param {string} file */
function touch(file) {
  try {
    const now = new Date();
    utimesSync(file, now, now);
  } catch {
    // The lock was removed by hand; the work goes on.
  }
}
