import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

const run = promisify(execFile);
const cwd = fileURLToPath(new URL("../../..", import.meta.url));

/** Where programs import the library from. */
export const library = new URL("../../lib/torch/index.js", import.meta.url).href;

/** What a program of its own prints, as exits and threads cannot be tried inside the test runner. */
export async function program(code: string): Promise<string> {
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", `import * as torch from "${library}";\n${code}`], { cwd });
  return stdout.trim();
}
