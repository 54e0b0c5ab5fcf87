/**
 * Writes lib/torch/ops.generated.ts and lib/torch/methods.generated.ts from the schemas of the libtorch that the addon runs on.
 *
 * Usage, after building: node dist/scripts/codegen/generateOps.js [--check]
 * With --check nothing is written; the exit code is 1 when a file differs.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { native } from "../../lib/native.js";
import { generate } from "./emit.js";

const check = process.argv.includes("--check");
const version = native.versions().built.split("+")[0] as string;
const { ops, methods } = generate(native.schemas(), version);

for (const [path, text] of [["lib/torch/ops.generated.ts", ops], ["lib/torch/methods.generated.ts", methods]] as const) {
  const file = fileURLToPath(new URL(`../../../${path}`, import.meta.url));
  const current = existsSync(file) ? readFileSync(file, "utf8") : "";
  if (current === text) {
    console.log(`${path} is up to date with libtorch ${version}`);
  } else if (check) {
    console.error(`${path} differs from what libtorch ${version} gives; run: node dist/scripts/codegen/generateOps.js`);
    process.exitCode = 1;
  } else {
    writeFileSync(file, text);
    console.log(`wrote ${path} for libtorch ${version}`);
  }
}
