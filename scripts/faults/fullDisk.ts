import { spawnSync, type SpawnSyncReturns } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Tally, Violation } from "./tally.js";

/** What filling one disk found. */
export interface FullDiskReport {
  /** Why nothing was tried, or null. */
  skipped: string | null;
  faults: Record<string, number>;
  states: number;
  nextRuns: number;
  violations: Violation[];
  violationCount: number;
  /** What the full disk stopped: the file or the pointer. */
  byStage: { write: number; point: number };
}

/** A disk that runs out of space, and one that runs out of files. */
const DISKS = ["size=2m", "size=2m,nr_inodes=40"];

/**
 * Fills small file systems in memory, which Linux lets root, and often others, mount where no other process sees them.
 *
 * @returns what each disk gave; where it cannot be mounted, why
 */
export function fillDisks(rounds: number, tally: Tally, seed = 1): FullDiskReport[] {
  return DISKS.map((options) => {
    const report = fillDisk(options, rounds, seed);
    for (const [fault, count] of Object.entries(report.faults)) tally.faults[fault] = (tally.faults[fault] ?? 0) + count;
    tally.states += report.states;
    tally.nextRuns += report.nextRuns;
    for (const violation of report.violations) tally.violation(violation);
    tally.violationCount += report.violationCount - report.violations.length;
    return report;
  });
}

/** Why no small file system can be mounted here, or null if it can. */
export function whyNoSmallDisk(): string | null {
  if (process.platform !== "linux") return "there is no tmpfs on this system";
  const { status, stderr, error } = onSmallDisk("size=2m", "true");
  return status === 0 ? null : `no tmpfs can be mounted: ${error?.message ?? stderr.trim()}`;
}

function fillDisk(options: string, rounds: number, seed: number): FullDiskReport {
  const skipped = whyNoSmallDisk();
  if (skipped !== null) {
    return { skipped, faults: {}, states: 0, nextRuns: 0, violations: [], violationCount: 0, byStage: { write: 0, point: 0 } };
  }
  const script = fileURLToPath(new URL("./fullDiskChild.js", import.meta.url));
  const command = 'exec "$3" "$4" "$2" "$5" "$6"';
  const { status, stdout, stderr } = onSmallDisk(options, command, process.execPath, script, String(rounds), String(seed));
  if (status !== 0) throw new Error(`filling the disk (${options}) ended with exit code ${status}: ${stderr}`);
  return JSON.parse(stdout) as FullDiskReport;
}

/** Runs a shell command where $2 is a file system in memory, which is gone afterwards; further arguments are from $3 on. */
function onSmallDisk(options: string, command: string, ...rest: string[]): SpawnSyncReturns<string> {
  const folder = mkdtempSync(join(tmpdir(), "moco-full-"));
  try {
    const rights = process.getuid?.() === 0 ? ["--mount"] : ["--user", "--map-root-user", "--mount"];
    const shell = `mount -t tmpfs -o "$1" tmpfs "$2" && ${command}`;
    return spawnSync("unshare", [...rights, "sh", "-c", shell, "sh", options, folder, ...rest], { encoding: "utf8", maxBuffer: 2 ** 24 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
