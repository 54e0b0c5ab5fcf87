import { execFileSync, type ExecFileSyncOptions } from "node:child_process";

/** A Python with torch to compare with (`MOCO_TEST_PYTHON`), or null; tests that need one are skipped without it. */
export const testPython: string | null = process.env.MOCO_TEST_PYTHON || null;

/** A checkout of upstream to compare with (`MOCO_TEST_UPSTREAM`), or null; the test Python must then find timm 0.4.9, such as by `PYTHONPATH`. */
export const testUpstream: string | null = process.env.MOCO_TEST_UPSTREAM || null;

/** A Python with the package tensorboard, whose own reader then reads our event files (`MOCO_TEST_TENSORBOARD`), or null. */
export const testTensorBoard: string | null = process.env.MOCO_TEST_TENSORBOARD || null;

/** A Python with the package mlflow, whose server then gets what we log (`MOCO_TEST_MLFLOW`), or null. */
export const testMlflow: string | null = process.env.MOCO_TEST_MLFLOW || null;

/** Runs a Python script, with `args` as its `sys.argv[1:]`, and parses the JSON that it prints. */
export function runPython<T = unknown>(script: string, args: string[] = []): T {
  return python(["-c", script, ...args]) as T;
}

/** Runs a Python file in the folder `cwd`, with `args`, and parses the JSON that it prints; what it says on stderr is in the error if it fails. */
export function runPythonFile<T = unknown>(file: string, args: string[], cwd: string): T {
  return python([file, ...args], { cwd, stdio: ["ignore", "pipe", "pipe"] }) as T;
}

function python(args: string[], options: ExecFileSyncOptions = {}): unknown {
  if (testPython === null) throw new Error("MOCO_TEST_PYTHON is not set");
  return JSON.parse(execFileSync(testPython, args, {
    stdio: ["ignore", "pipe", "inherit"], maxBuffer: 2 ** 28, ...options, encoding: "utf8",
  })) as unknown;
}
