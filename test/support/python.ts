import { execFileSync } from "node:child_process";

/** A Python with torch to compare with (`MOCO_TEST_PYTHON`), or null; tests that need one are skipped without it. */
export const testPython: string | null = process.env.MOCO_TEST_PYTHON || null;

/** Runs a Python script, with `args` as its `sys.argv[1:]`, and parses the JSON that it prints. */
export function runPython<T = unknown>(script: string, args: string[] = []): T {
  if (testPython === null) throw new Error("MOCO_TEST_PYTHON is not set");
  const output = execFileSync(testPython, ["-c", script, ...args], {
    encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 2 ** 28,
  });
  return JSON.parse(output) as T;
}
