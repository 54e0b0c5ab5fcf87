import cliProgress from "cli-progress";
import type { Config } from "../config.js";

/** Shows how far one step has come. Everything goes to standard error. */
export interface Progress {
  /** `done` of `total` bytes or parts. */
  update(done: number): void;
  /** Ends the step; `note` is shown where there is no terminal. */
  end(note?: string): void;
}

/** How the total is shown. */
export type ProgressUnit = "bytes" | "steps";

// Without a terminal a line every quarter is enough to see that something moves, in a log that stays short.
const QUARTERS = 4;

/**
 * Starts a step: a bar on a terminal, a few plain lines elsewhere, nothing if `MOCO_QUIET` is set.
 *
 * @example
 * const progress = startProgress(config, "Downloading torch", 5e8, "bytes");
 */
export function startProgress(config: Config, label: string, total: number, unit: ProgressUnit): Progress {
  if (config.quiet) return { update: () => {}, end: () => {} };
  if (!process.stderr.isTTY) return plainLines(label, total, unit);
  const scale = unit === "bytes" ? 1e6 : 1;
  const format = unit === "bytes" ? `${label} [{bar}] {value}/{total} MB` : `${label} [{bar}] {value}/{total}`;
  const bar = new cliProgress.SingleBar({ format, stream: process.stderr, hideCursor: true, barsize: 30 }, cliProgress.Presets.rect);
  bar.start(Math.ceil(total / scale), 0);
  return {
    update: (done) => bar.update(Math.round(done / scale)),
    end: () => {
      bar.update(Math.ceil(total / scale));
      bar.stop();
    },
  };
}

/** One line about what is being done, on standard error. */
export function say(config: Config, line: string): void {
  if (!config.quiet) process.stderr.write(`${line}\n`);
}

function plainLines(label: string, total: number, unit: ProgressUnit): Progress {
  const amount = unit === "bytes" ? ` (${Math.ceil(total / 1e6)} MB)` : "";
  process.stderr.write(`${label}${amount}\n`);
  let shown = 0;
  return {
    update: (done) => {
      const quarter = Math.floor((done / total) * QUARTERS);
      if (quarter <= shown || quarter >= QUARTERS) return;
      shown = quarter;
      process.stderr.write(`${label}: ${(quarter * 100) / QUARTERS} %\n`);
    },
    end: (note) => {
      if (note) process.stderr.write(`${label}: ${note}\n`);
    },
  };
}
