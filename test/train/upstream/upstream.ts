/** Upstream's programs, where a Python and a checkout of upstream are given. */
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runPythonFile, testPython, testUpstream } from "../../support/python.js";
import { archName, type TinyTraining } from "./tinyTraining.js";

export const canRunUpstream = testPython !== null && testUpstream !== null;

const driver = fileURLToPath(new URL("../../../../test/train/upstream/run_upstream.py", import.meta.url));

/** How a run of upstream differs from the training it is given. */
export interface UpstreamRun {
  program?: "main_moco" | "main_lincls";
  dtype: "float64" | "float32";
  /** More of its command line, such as `--resume`. */
  args?: string[];
  /** Whether upstream's losses are scaled; as in the training unless given. */
  scaler?: boolean;
  /** Processes that share each batch. Default 1. */
  ranks?: number;
}

/** Runs upstream in a new folder under `root`, where it leaves its checkpoints. */
export function runUpstream(root: string, training: TinyTraining, run: UpstreamRun): { folder: string; losses: number[] } {
  const { program = "main_moco", dtype, args = [], scaler = training.scaler, ranks = 1 } = run;
  const { arch, batches, options } = training;
  const folder = mkdtempSync(join(root, "upstream-"));
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  // A size of the encoder here, an option of the program there.
  if ("vit_tiny" in arch && arch.vit_tiny.stop_grad_conv1) flags.push("--stop-grad-conv1");
  const job = {
    upstream: testUpstream, program, dtype, scaler, ranks, arch, batches,
    args: ["-a", archName(training), ...(program === "main_moco" ? ["--moco-m-cos", ...flags] : []), ...args],
  };
  const { losses } = runPythonFile<{ losses: number[] }>(driver, [JSON.stringify(job)], folder);
  return { folder, losses };
}
