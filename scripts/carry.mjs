// Packs this checkout, built, with Node.js itself, for a machine that has neither Node.js nor a network but Python with the same libtorch, as
// nodes of a GPU cluster often are:
//
//   node scripts/carry.mjs FOLDER [--tests] [--with PATH]... [--without PATH]...
//
// FOLDER then holds moco.tar.xz and unpack.sh. There, `. FOLDER/unpack.sh DESTINATION` unpacks it, finds Python's torch and sets PATH and
// LIBTORCH; `moco ...` runs then, and with --tests `npm run test:gpu`'s tests do: node --experimental-vm-modules node_modules/jest/bin/jest.js dist/test/gpu
// The addon lies there as npm installs it, so that nothing is compiled, whichever folder Python has its torch in.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { unpackScript } from "./carry/unpackScript.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const [folder, ...flags] = process.argv.slice(2);
if (!folder || folder.startsWith("-")) {
  console.error("error: say where to put it: node scripts/carry.mjs FOLDER [--tests] [--with PATH]... [--without PATH]...");
  process.exit(2);
}
const tests = flags.includes("--tests");
const named = (name) => flags.flatMap((flag, i) => (flag === name ? [resolve(flags[i + 1])] : []));
const [more, less] = [named("--with"), named("--without")]; // what to carry besides, and what is there already

const libtorch = builtFor();
const stage = mkdtempSync(join(tmpdir(), "moco-carry-"));
try {
  const at = (...parts) => join(stage, "moco", ...parts);
  // Types, source maps and native sources of packages run nowhere.
  const runs = (path) => !/\.(map|d\.[mc]?ts|md|cc|gyp)$|\.tsbuildinfo$/.test(path);
  const copy = (path, filter = (each) => runs(each) && !less.includes(each)) => cpSync(join(root, path), at(path), { recursive: true, filter, verbatimSymlinks: true });
  for (const path of ["dist/lib", "dist/scripts", "scripts/bench", "recipes", "package.json"]) copy(path);
  const platform = `${process.platform}-${process.arch}`;
  for (const [name, files] of [[platform, ["moco.node", "moco_loader.node"]], [`${platform}-cuda`, ["moco_cuda.node"]]]) {
    const place = at("node_modules/@moco-v3", name, `libtorch-${libtorch.version}`);
    mkdirSync(place, { recursive: true });
    for (const file of files.map((each) => join(root, "build/Release", each)).filter(existsSync)) copyFileSync(file, join(place, basename(file)));
    writeFileSync(join(place, "../package.json"), JSON.stringify({ name: `@moco-v3/${name}`, version: "0.0.0" }));
  }
  if (tests) for (const path of ["dist/test", "jest.config.mjs", "test/fixtures"]) copy(path);
  for (const path of packages(["cmake-js", "node-addon-api", "node-api-headers"], tests ? ["jest", "@jest/globals"] : [])) copy(path);
  mkdirSync(at("bin"));
  copyFileSync(realpathSync(process.execPath), at("bin", "node"));
  symlinkSync("../dist/lib/cli/main.js", at("bin", "moco"));
  chmodSync(at("dist/lib/cli/main.js"), 0o755); // the compiler leaves it without, and npm, which would mend that, has no part in this
  for (const path of more) cpSync(path, at("with", basename(path)), { recursive: true, filter: (each) => !/\.git(\/|$)/.test(each) });
  mkdirSync(folder, { recursive: true });
  const archive = join(folder, "moco.tar.xz");
  execFileSync("tar", ["-C", stage, "-cf", archive, "-I", "xz -T0 -6", "moco"], { stdio: ["ignore", "inherit", "inherit"] });
  const digest = createHash("sha256").update(readFileSync(archive)).digest("hex");
  writeFileSync(join(folder, "unpack.sh"), unpackScript({ build: libtorch.build, digest }));
  if (!existsSync(join(root, "build/Release/moco_cuda.node"))) {
    console.error(`note: without the addon for CUDA graphs and NCCL; build it before, with: LIBTORCH=${libtorch.root} npx moco setup --cuda`);
  }
  console.log(`${archive}: ${(readFileSync(archive).length / 2 ** 20).toFixed(1)} MiB, SHA-256 ${digest}`);
} finally {
  rmSync(stage, { recursive: true, force: true });
}

/** Folders of the packages that run, with all that they need in turn. */
function packages(left, extra) {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const found = new Set();
  const visit = (name, from) => {
    // As Node.js looks for it: beside the package that needs it, then beside that one's, and so on.
    const beside = [...from.matchAll(/\/node_modules\/|$/g)].map(({ index }) => from.slice(0, index)).reverse();
    const places = [...new Set([from, ...beside, ""])].map((each) => join(each, "node_modules", name));
    const place = places.find((each) => existsSync(join(root, each, "package.json")));
    if (place === undefined || found.has(place)) return; // an optional one, for another platform
    found.add(place);
    const needs = JSON.parse(readFileSync(join(root, place, "package.json"), "utf8"));
    for (const each of Object.keys({ ...needs.dependencies, ...needs.optionalDependencies })) visit(each, place);
  };
  for (const name of [...Object.keys(dependencies).filter((each) => !left.includes(each)), ...extra]) visit(name, "");
  return found;
}

/** The libtorch that the addon was built for. */
function builtFor() {
  const script = `import("./dist/lib/setup/index.js").then(({ findLibtorch, isAddonFresh }) => {
    const libtorch = findLibtorch();
    console.log(JSON.stringify({ ...libtorch, fresh: isAddonFresh(libtorch) }));
  })`;
  const found = JSON.parse(execFileSync(process.execPath, ["-e", script], { cwd: root, encoding: "utf8" }));
  if (found.fresh) return found;
  console.error(`error: the addon in build/Release is not that of ${found.root}; build it before, with: LIBTORCH=${found.root} npx moco setup --cuda`);
  process.exit(1);
}
