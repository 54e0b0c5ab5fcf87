/** One machine's launcher, as `moco launch` is one, of processes that are `trainee.ts`. */
import { fileURLToPath } from "node:url";
import { readConfig } from "../../../lib/config.js";
import { launch, silenceFor } from "../../../lib/distributed/launch/launch.js";
import { openLaunchStore } from "../../../lib/distributed/launch/launchStore.js";
import type { TraineeTask } from "./trainee.js";

export interface LauncherTask {
  node: number;
  nodes: number;
  processes: number;
  masterAddress: string;
  masterPort: number;
  task: TraineeTask;
}

const { node, nodes, processes, masterAddress, masterPort, task } = JSON.parse(process.argv[2]!) as LauncherTask;
process.exitCode = await launch({
  command: process.execPath,
  words: [fileURLToPath(new URL("./trainee.js", import.meta.url)), JSON.stringify(task)],
  node, nodes, processes, masterAddress, masterPort,
  maxRestarts: 5,
  silenceMs: silenceFor(readConfig().watchdogSeconds),
  createStore: openLaunchStore,
  log: (line) => process.stderr.write(`launch: ${line}\n`),
});
