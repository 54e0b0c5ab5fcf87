import { fileURLToPath } from "node:url";
import { readConfig } from "../config.js";
import type { LaunchOptions } from "../distributed/launch/launch.js";

/** A command of `moco`, and how many processes run it where. */
export interface ProcessesPlan
  extends Pick<LaunchOptions, "processes" | "nodes" | "node" | "masterAddress" | "masterPort" | "maxRestarts" | "gatherMs" | "environment"> {
  /** The command line, from the command's name on. */
  words: readonly string[];
  /** The run's folder, where the command line names none. */
  folder: string | null;
}

/**
 * Runs a command of `moco` in several processes, and waits for them. libtorch must be ready: it is not to be set up in each process.
 *
 * @returns the exit code: 0, or that of the first process that failed
 */
export async function startProcesses({ words, folder, ...plan }: ProcessesPlan): Promise<number> {
  const { launch, silenceFor } = await import("../distributed/launch/launch.js");
  const { watchdogSeconds } = readConfig();
  return launch({
    ...plan,
    command: process.execPath,
    words: [fileURLToPath(new URL("./main.js", import.meta.url)), ...words],
    // All starts write into one folder, and all machines into that of machine 0, whose clock names it.
    startWords: (start) => [...(folder === null ? [] : ["--out", folder]), ...(start === 0 ? [] : ["--auto-resume"])],
    ...(watchdogSeconds > 0 && { silenceMs: silenceFor(watchdogSeconds) }),
    createStore: async () => {
      const { openLaunchStore } = await import("../distributed/launch/launchStore.js");
      return openLaunchStore();
    },
    log: (line) => process.stderr.write(`launch: ${line}\n`),
  });
}
