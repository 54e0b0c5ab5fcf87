import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { PretrainOptions } from "../pretrainOptions.js";

/** Steps that are asked for. */
export interface TrialRequest {
  options: Omit<PretrainOptions, "data">;
  /** Sizes of batches, small to large. */
  batches: readonly number[];
  /** Steps at each; the first warms up. */
  repeats: number;
}

export interface TrialStep {
  batch: number;
  /** Of each of the steps. */
  seconds: number[];
  /** Largest memory of the process, or of a GPU's tensors, up to then; null where the system does not tell. */
  peakBytes: number | null;
}

export interface TrialReport {
  device: string;
  /** Of the process with libtorch, before there is a network. */
  baseBytes: number | null;
  /** With the network. */
  networkBytes: number | null;
  steps: TrialStep[];
}

/** Steps that were tried and failed, such as for lack of memory. */
export class TrialError extends Error {
  override readonly name = "TrialError";
}

/**
 * Does a few real steps in a process of their own.
 *
 * @throws TrialError with the last line that the process wrote
 */
export async function runTrial(request: TrialRequest): Promise<TrialReport> {
  const program = fileURLToPath(new URL("./trialProcess.js", import.meta.url));
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [program, JSON.stringify(request)], { maxBuffer: 2 ** 24 }, (error, stdout, stderr) => {
      if (!error) return resolve(JSON.parse(stdout.trim().split("\n").at(-1)!) as TrialReport);
      const words = /^\w*Error: .*$/m.exec(stderr)?.[0] ?? stderr.trim().split("\n").at(-1) ?? "";
      reject(new TrialError(`a trial step failed: ${words || error.message}; plan with a smaller network, or see moco doctor`, { cause: error }));
    });
  });
}
