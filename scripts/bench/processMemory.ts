import { readFileSync } from "node:fs";

/** Largest and present resident size of a process, in bytes, as the system counts them (Linux). */
export function processMemory(pid: number | "self"): { peak: number; now: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const bytes = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? NaN) * 1024;
  return { peak: bytes("VmHWM"), now: bytes("VmRSS") };
}
