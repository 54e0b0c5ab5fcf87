import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Config, readConfig } from "../../lib/config.js";
import type { PlatformWheels, Wheel } from "../../lib/setup/wheels.js";
import { writeZip, type ZipMember } from "./zipFile.js";

const SUFFIX = process.platform === "darwin" ? ".dylib" : ".so";

/** A new folder under the system's temporary one. */
export function temporaryFolder(name: string): string {
  return mkdtempSync(join(tmpdir(), `moco-${name}-`));
}

/** A configuration that no variable of the real environment reaches. */
export function configFor(cache: string, environment: Record<string, string> = {}): Config {
  return readConfig({ MOCO_CACHE: cache, MOCO_QUIET: "1", MOCO_CUDA: "0", ...environment });
}

/** Writes a file and the folders above it. */
export function write(file: string, content = ""): string {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

/** A folder with what a libtorch must have, and nothing that works. */
export function fakeLibtorch(root: string, version: { zip?: string; wheel?: string }): string {
  for (const name of ["torch_cpu", "c10"]) write(join(root, "lib", `lib${name}${SUFFIX}`));
  write(join(root, "include", "ATen", "ATen.h"));
  if (version.zip) write(join(root, "build-version"), `${version.zip}\n`);
  if (version.wheel) write(join(root, "version.py"), `__all__ = ['__version__']\n__version__ = '${version.wheel}'\ncuda = None\n`);
  return root;
}

/** The members of a torch wheel. */
export function torchWheel(version: string, more: readonly ZipMember[] = []): ZipMember[] {
  return [
    { path: `torch/lib/libtorch_cpu${SUFFIX}`, content: "cpu", mode: 0o100755 },
    { path: `torch/lib/libc10${SUFFIX}`, content: "c10" },
    { path: `torch/lib/libtorch_cuda${SUFFIX}`, content: "cuda" },
    { path: `torch/lib/libtorch_python${SUFFIX}`, content: "python" },
    { path: "torch/include/ATen/ATen.h", content: "#pragma once" },
    { path: "torch/version.py", content: `__version__ = '${version}'\n` },
    { path: "torch/nn/modules.py", content: "import this" },
    ...more,
  ];
}

/** A package index of one wheel, and a Python whose pip fetches from it. */
export interface FakeIndex {
  readonly python: string;
  readonly wheels: PlatformWheels;
  /** The arguments of every call of pip so far. */
  calls(): string[][];
}

/**
 * @param pip what pip does: fetch, or say something and fail
 * @param wrongHash pin another hash than the file's
 */
export function fakeIndex(folder: string, members: readonly ZipMember[], pip: { fails?: string; wrongHash?: boolean } = {}): FakeIndex {
  const file = "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl";
  mkdirSync(join(folder, "index"), { recursive: true });
  const archive = writeZip(join(folder, "index", file), members);
  const content = readFileSync(archive);
  const sha256 = pip.wrongHash ? "0".repeat(64) : createHash("sha256").update(content).digest("hex");
  const wheel: Wheel = { project: "torch", version: "2.11.0", file, bytes: content.length, sha256 };
  const log = join(folder, "pip.log");
  const python = write(
    join(folder, "python"),
    `#!${process.execPath}
const fs = require("node:fs"), path = require("node:path");
const args = process.argv.slice(2);
if (args[0] === "-c") { console.log("3.11.7 1"); process.exit(0); }
fs.appendFileSync(${JSON.stringify(log)}, JSON.stringify([...args, "TMPDIR=" + process.env.TMPDIR]) + "\\n");
const fails = ${JSON.stringify(pip.fails ?? "")};
if (fails) { console.error(fails); process.exit(1); }
const dest = args[args.indexOf("--dest") + 1];
fs.copyFileSync(${JSON.stringify(archive)}, path.join(dest, ${JSON.stringify(file)}));
`,
  );
  chmodSync(python, 0o755);
  return {
    python,
    wheels: { tags: ["manylinux_2_28_x86_64"], cpu: [wheel], cuda: [], clangFormat: wheel },
    calls: () => (existsSync(log) ? readFileSync(log, "utf8").trim().split("\n").map((line) => JSON.parse(line) as string[]) : []),
  };
}
