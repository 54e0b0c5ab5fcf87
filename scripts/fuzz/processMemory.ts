import { readFileSync, writeFileSync } from "node:fs";

/** Bytes that `/proc/self/status` gives under a name such as VmRSS, or null where there is no such file. */
function statusBytes(field: string): number | null {
  let status: string;
  try {
    status = readFileSync("/proc/self/status", "latin1");
  } catch {
    return null; // not Linux
  }
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1];
  return kilobytes === undefined ? null : Number(kilobytes) * 1024;
}

/** Watches how far this process's resident memory rises above where it was. */
export class MemoryPeak {
  readonly #start: number;

  /** Starts watching: forgets the peak so far. */
  constructor() {
    try {
      writeFileSync("/proc/self/clear_refs", "5");
    } catch {
      // Not Linux, or not allowed: the peak is then that of the whole process.
    }
    this.#start = statusBytes("VmRSS") ?? process.memoryUsage().rss;
  }

  /** Bytes above the start that were resident at once. */
  rise(): number {
    return Math.max(0, (statusBytes("VmHWM") ?? process.memoryUsage().rss) - this.#start);
  }
}
