import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";
import { childEnvironment } from "../../lib/config.js";
import { packageRoot } from "../../lib/setup/packageRoot.js";

/**
 * Runs a program of the checkout's packages, or of the system, with its output here.
 *
 * @throws Error that names the command if it fails
 */
export function runTool(command: string, words: readonly string[]): void {
  const path = [join(packageRoot, "node_modules", ".bin"), childEnvironment().PATH].join(delimiter);
  const { status, error } = spawnSync(command, words, { stdio: "inherit", env: childEnvironment({ PATH: path }) });
  if (error) throw error;
  if (status !== 0) throw new Error(`${[command, ...words].join(" ")} failed (${status}); its output is above`);
}
