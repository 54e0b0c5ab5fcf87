import { spawn } from "node:child_process";
import { childEnvironment } from "../../config.js";
import { ShardError } from "./shardError.js";

/** A command whose output is being read. */
export interface RunningCommand {
  output: AsyncIterable<Uint8Array>;
  /** Resolves when it ended well; to be asked for once its output is at its end. */
  ended: Promise<void>;
  /** Ends it, with all that it started. Nothing happens when it has ended. */
  stop(): void;
}

/** Process groups of the commands that run. */
const running = new Set<number>();
const patience = 2000; // milliseconds from the wish to end to the order
const keptLines = 5;
const keptErrors = 4096; // bytes of what a command writes to stderr

function endGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch {
    // It has ended.
  }
}

let watching = false;

function endAllWithProcess(): void {
  if (watching) return;
  watching = true;
  process.on("exit", () => running.forEach((group) => endGroup(group, "SIGKILL")));
}

/**
 * Runs a command through `sh -c`. Its output is read as it is asked for, so a command that is faster waits at its pipe. It gets a process
 * group of its own: ending it ends every part of a pipeline.
 *
 * @param shard how errors call it
 * @throws {ShardError} from `ended`: when it cannot be started, fails or is killed, with the last lines that it wrote to stderr.
 */
export function runCommand(command: string, shard = command): RunningCommand {
  endAllWithProcess();
  const child = spawn("sh", ["-c", command], { stdio: ["ignore", "pipe", "pipe"], detached: true, env: childEnvironment() });
  const group = child.pid; // undefined when it did not start
  if (group !== undefined) running.add(group);
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors = (errors + text).slice(-keptErrors)));
  let stopped = false;

  const ended = new Promise<void>((resolve, reject) => {
    child.on("error", (cause) => {
      reject(new ShardError(shard, `cannot start sh: ${cause.message}; install a POSIX shell or give plain files`, { cause }));
    });
    child.on("close", (code, signal) => {
      if (stopped) return resolve();
      if (group !== undefined) running.delete(group);
      if (code === 0) return resolve();
      const how = signal ? `was ended by ${signal}` : `failed with exit code ${code}`;
      const lines = errors.trim().split("\n").slice(-keptLines).map((line) => `  ${line}`);
      const said = errors.trim() === "" ? "and wrote nothing to stderr." : `and wrote to stderr:\n${lines.join("\n")}`;
      reject(new ShardError(shard, `the command ${how} ${said}\nRun it by hand to see more.`));
    });
  });
  ended.catch(() => {}); // who waits for it hears of it

  const stop = (): void => {
    if (stopped || group === undefined || !running.has(group)) return;
    stopped = true;
    child.stdout.destroy();
    child.stderr.destroy();
    endGroup(group, "SIGTERM");
    setTimeout(() => {
      endGroup(group, "SIGKILL");
      running.delete(group);
    }, patience).unref();
  };
  return { output: child.stdout as AsyncIterable<Uint8Array>, ended, stop };
}
