// The lints: types, ESLint, clang-format, layers, and the reference: every export has a summary, and typedoc finds nothing to warn of. Prints one line for each, `lint NAME: passed` or `lint NAME: failed`
// after what it found, and exits with 1 if any failed. With --fix, ESLint and clang-format mend what they can.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const require = createRequire(import.meta.url);
const fix = process.argv.includes("--fix");

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (error) console.error(error.message);
  return status === 0;
}

function types() {
  const projects = [root, join(root, "lib", "report", "client")];
  return projects.every((project) => run(process.execPath, [require.resolve("typescript/bin/tsc"), "--noEmit", "--incremental", "false", "--project", project]));
}

function eslint() {
  const eslintFile = join(dirname(require.resolve("eslint/package.json")), "bin", "eslint.js");
  return run(process.execPath, [eslintFile, ...(fix ? ["--fix", "."] : ["."])]);
}

async function clangFormat() {
  const { fetchClangFormat } = await import("../dist/lib/setup/fetchClangFormat.js");
  const native = join(root, "native");
  const files = readdirSync(native, { recursive: true }).filter((file) => /\.(cc|h)$/.test(file));
  const mode = fix ? ["-i"] : ["--dry-run", "--Werror"];
  return run(await fetchClangFormat(), [...mode, "--style=file", ...files.map((file) => join(native, file))]);
}

async function layers() {
  const { layerViolations } = await import("../dist/scripts/layers.js");
  const found = layerViolations(join(root, "lib"));
  for (const line of found) console.error(line);
  return found.length === 0;
}

async function reference() {
  const { undocumentedExports } = await import("../dist/scripts/undocumentedExports.js");
  const { entryPoints } = ts.readConfigFile(join(root, "typedoc.json"), (file) => readFileSync(file, "utf8")).config;
  const found = undocumentedExports(root, entryPoints);
  for (const line of found) console.error(`${line} has no TSDoc summary; say in a sentence what it is`);
  const typedoc = join(root, "node_modules", "typedoc", "bin", "typedoc");
  return run(process.execPath, [typedoc, "--emit", "none", "--logLevel", "Warn"]) && found.length === 0;
}

for (const [name, lint] of Object.entries({ types, eslint, "clang-format": clangFormat, layers, reference })) {
  let passed = false;
  try {
    passed = await lint();
  } catch (error) {
    console.error(error.message);
  }
  console.log(`lint ${name}: ${passed ? "passed" : "failed"}`);
  if (!passed) process.exitCode = 1;
}
