import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { childEnvironment } from "../../lib/config.js";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { ComparisonError } from "./errors.js";

/** Runs `moco WORDS --json` as a user does, with one operator on `threads` threads, and parses what it prints. */
export async function moco<T>(words: readonly string[], threads: number): Promise<T> {
  const script = join(packageRoot, "dist", "lib", "cli", "main.js");
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [script, ...words, "--json"], {
      env: childEnvironment({ OMP_NUM_THREADS: String(threads), MOCO_QUIET: "1", NO_COLOR: "1" }), maxBuffer: 2 ** 26,
    });
    return JSON.parse(stdout) as T;
  } catch (error) {
    const { message, stderr } = error as Error & { stderr?: string };
    throw new ComparisonError(`moco ${words.join(" ")}: ${stderr || message}`, { cause: error });
  }
}
