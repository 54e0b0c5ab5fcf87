import { fstatSync } from "node:fs";
import { Socket } from "node:net";
import { LIFELINE } from "./workers.js";

/**
 * Ends this process, and what it has started, as soon as the launcher that started it is gone: a training whose launcher was killed would
 * otherwise go on unwatched, or wait for peers for ever.
 *
 * A process that is stopped, or whose thread is busy for long, does not see it here: on Linux the kernel ends it besides
 * (`native.endWithParent`).
 */
export function holdLifeline(): void {
  if (!fstatSync(LIFELINE).isSocket()) return;
  const lifeline = new Socket({ fd: LIFELINE, readable: true, writable: false });
  const cut = (): void => {
    process.stderr.write("error: the launcher of this process has ended; go on from the last checkpoint\n");
    try {
      process.kill(-process.pid, "SIGKILL"); // it leads a group
    } catch {
      process.kill(process.pid, "SIGKILL");
    }
  };
  lifeline.on("close", cut).on("error", cut).resume();
  lifeline.unref();
}
