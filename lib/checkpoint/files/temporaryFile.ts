import { randomBytes } from "node:crypto";
import { readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { crc32 } from "node:zlib";

/** Who writes, or wrote, a temporary file. */
export interface TemporaryOwner {
  /** Name of the file that it was to become. */
  target: string;
  host: string;
  pid: number;
}

/**
 * A temporary file that nobody has written to for so long has no writer any more, in milliseconds: a live one writes all the time.
 * It decides for writers that cannot be asked, those on other machines and in other containers.
 */
export const ABANDONED_AFTER = 60 * 60 * 1000;

const NAME = /^\.(.+)\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp$/;
/** This machine and its table of processes: inside a container the same numbers mean other processes. */
const HOST = crc32(`${hostname()} ${processTable()}`).toString(16).padStart(8, "0");

function processTable(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return ""; // not Linux
  }
}

/** A hidden name beside `path`, on the same file system, that tells who writes it: `.NAME.HOST-PID-RANDOM.tmp`. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.${HOST}-${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
}

/** Who made the temporary file of this name, or null for other files. */
export function temporaryOwner(name: string): TemporaryOwner | null {
  const match = NAME.exec(name);
  return match === null ? null : { target: match[1]!, host: match[2]!, pid: Number(match[3]) };
}

/**
 * Whether the writer of a temporary file is gone: its process on this machine has ended, or the file was not written to for an hour.
 *
 * @param modified when it was last written to, in milliseconds since 1970
 */
export function isAbandoned({ host, pid }: TemporaryOwner, modified: number): boolean {
  if (Date.now() - modified > ABANDONED_AFTER) return true;
  if (host !== HOST) return false;
  // A restarted machine gives the same numbers again, even our own.
  if (pid === process.pid) return modified < Date.now() - 1000 * process.uptime() - 1000;
  return !isAlive(pid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"; // EPERM: it runs, as another user
  }
}
