import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

const run = promisify(execFile);
const cwd = fileURLToPath(new URL("../../..", import.meta.url));

/** Where programs import the library from. */
export const library = new URL("../../lib/torch/index.js", import.meta.url).href;

/** What a program of its own prints that imports the library as `torch`, as exits and threads cannot be tried inside the test runner. */
export async function program(code: string): Promise<string> {
  return plainProgram(`import * as torch from "${library}";\n${code}`);
}

/** Likewise of one that imports nothing by itself. */
export async function plainProgram(code: string): Promise<string> {
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", code], { cwd });
  return stdout.trim();
}
