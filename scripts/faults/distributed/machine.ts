import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../../lib/config.js";
import type { LauncherTask } from "./launcher.js";

/** A line of output, and when it came. */
export interface Line {
  at: number;
  text: string;
}

/** A launcher in a network namespace, as on a machine of its own. */
export class Machine {
  readonly lines: Line[] = [];
  readonly ended: Promise<number | string | null>;
  readonly #child: ChildProcess;

  /** @param on puts words in front of a command so that it runs in the namespace */
  constructor(on: (words: readonly string[]) => string[], readonly task: LauncherTask, watchdogSeconds: number) {
    const script = fileURLToPath(new URL("./launcher.js", import.meta.url));
    const [command, ...words] = on([process.execPath, script, JSON.stringify(task)]);
    this.#child = spawn(command!, words, {
      stdio: ["ignore", "ignore", "pipe"],
      env: childEnvironment({ OMP_NUM_THREADS: "1", MOCO_WATCHDOG_SECONDS: String(watchdogSeconds) }),
    });
    createInterface({ input: this.#child.stderr! }).on("line", (text) => this.lines.push({ at: performance.now(), text }));
    this.ended = new Promise((resolve) => this.#child.on("exit", (code, signal) => resolve(code ?? signal)));
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.#child.kill(signal);
  }
}
