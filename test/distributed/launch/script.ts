/** Launches small programs in place of trainings, and looks at what becomes of them. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { launch, type LaunchOptions } from "../../../lib/distributed/launch/launch.js";
import type { LaunchStore } from "../../../lib/distributed/launch/coordinator.js";

/** A store for programs that use none: it keeps what it is told. */
export function listeningStore(): LaunchStore & { accused: { generation: string; rank: number; what: string }[] } {
  const accused: { generation: string; rank: number; what: string }[] = [];
  return {
    accused, port: 1,
    accuse: (generation, rank, what) => void accused.push({ generation, rank, what }),
    verdict: () => null,
    close: () => undefined,
  };
}

/** Launches `program`, JavaScript for each process. */
export async function launchScript(
  program: string, options: Partial<LaunchOptions> & { processes: number },
): Promise<{ code: number; log: string[]; store: ReturnType<typeof listeningStore> }> {
  const log: string[] = [];
  const store = listeningStore();
  const code = await launch({
    command: process.execPath, words: ["-e", program], createStore: () => Promise.resolve(store), log: (line) => log.push(line), ...options,
  });
  return { code, log, store };
}

/** Not a zombie, which only waits for its parent to ask how it ended. */
export function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

/** The same in a process of its own, which signals can be sent to. */
export function startLauncher(program: string, options: Record<string, number>): ChildProcess {
  const here = fileURLToPath(import.meta.url);
  const code = `import(${JSON.stringify(here)}).then(({ launchScript }) => launchScript(${JSON.stringify(program)}, ${JSON.stringify(options)}))
    .then(({ code }) => { process.exitCode = code; });`;
  return spawn(process.execPath, ["-e", code], { stdio: ["ignore", "inherit", "inherit"] });
}

/** How a process ended. */
export function exitOf(child: ChildProcess): Promise<number | string | null> {
  return new Promise((resolve) => child.on("exit", (code, signal) => resolve(code ?? signal)));
}

/** @throws when it does not come true within 10 s */
export async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries === 200) throw new Error(`not within 10 s: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
