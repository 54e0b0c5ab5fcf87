/** Runs the command as a user does, in a process of its own. */
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

export const mainScript = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface StartOptions {
  cwd?: string;
  /** Sees all that has come so far, each time something comes. */
  onStderr?: (text: string, child: ChildProcess) => void;
  onStdout?: (text: string, child: ChildProcess) => void;
}

/** Starts `moco` with the given words. */
export function startMoco(words: readonly string[], options: StartOptions = {}): Promise<Outcome> {
  return startCommand(process.execPath, [mainScript, ...words], options);
}

export function startCommand(command: string, words: readonly string[], { cwd, onStderr, onStdout }: StartOptions = {}): Promise<Outcome> {
  // Messages are compared as text; CI services ask for colours even into a pipe.
  const child = spawn(command, words, { cwd, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1" } });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
    onStdout?.(stdout, child);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
    onStderr?.(stderr, child);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}
