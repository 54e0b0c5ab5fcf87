/**
 * Makes the packages that are published, and tries them: builds the addon for any system that libtorch's own packages run on, checks what it needs of a
 * system, packs, checks types and manifests, and installs the tarballs where there is no compiler.
 *
 *   npm run release -- --dry-run                       all of that, in build/release; publishes nothing
 *   npm run release -- --dry-run --record              and writes sizes and needs into docs/packaging.md
 *   npm run release -- --dry-run --also FOLDER         with binaries for another libtorch too, which lies in FOLDER
 *   npm run release -- --provenance                    publishes with npm in the end, the packages with binaries first
 */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { readConfig } from "../../lib/config.js";
import { buildAddon, fetchCudaHeaders, findLibtorch, hasCudaHeaders, packageRoot, type LibtorchLocation } from "../../lib/setup/index.js";
import { ADDON_FILES, CUDA_ADDON } from "../../lib/setup/prebuilt.js";
import { inspectTorchFolder } from "../../lib/setup/torchFolder.js";
import { assemblePackages, type Binaries } from "./assemble.js";
import { consumerTypesCheck } from "./consumerTypes.js";
import { CleanMachine, tryInstallation } from "./installTest.js";
import { thirdPartyNotices } from "./notices.js";
import { pack, type Tarball } from "./pack.js";
import { recordPackages } from "./record.js";
import { runTool } from "./runTool.js";
import { checkSymbolVersions, type SymbolVersions } from "./symbolVersions.js";

const { values: flags } = parseArgs({
  options: {
    "dry-run": { type: "boolean", default: false }, record: { type: "boolean", default: false }, also: { type: "string", multiple: true, default: [] },
    "demo-epochs": { type: "string", default: "1" }, provenance: { type: "boolean", default: false }, help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log("npm run release -- [--dry-run] [--record] [--also LIBTORCH_FOLDER]... [--demo-epochs N] [--provenance]");
} else {
  await release();
}

async function release(): Promise<void> {
  const config = readConfig();
  const libtorch = findLibtorch(config);
  const out = join(packageRoot, "build", "release");
  if (!hasCudaHeaders(config, libtorch)) await fetchCudaHeaders(config);

  const binaries: Binaries[] = [];
  const needs: Record<string, SymbolVersions> = {};
  for (const each of [libtorch, ...flags.also.map((folder) => inspectTorchFolder(folder, "LIBTORCH"))]) {
    const built = await build(each, join(out, `addon-${each.version}`), each === libtorch);
    binaries.push({ folder: built, version: each.version });
    for (const file of each === libtorch ? [...ADDON_FILES, CUDA_ADDON] : ADDON_FILES) needs[`libtorch-${each.version}/${file}`] = checkSymbolVersions(join(built, file));
  }

  const license = join(dirname(libtorch.root), `torch-${libtorch.version}.dist-info`, "licenses", "LICENSE");
  const folders = assemblePackages({ root: packageRoot, binaries, notices: thirdPartyNotices(packageRoot, license) }, join(out, "packages"));
  const tarballs = folders.map((folder) => pack(folder, join(out, "tarballs")));
  const main = tarballs.at(-1)!;
  for (const { file, packedBytes, unpackedBytes } of tarballs) console.log(`${file}: ${kilobytes(packedBytes)}, ${kilobytes(unpackedBytes)} unpacked`);

  runTool("publint", ["--strict", main.folder]);
  runTool("attw", [main.file, "--profile", "esm-only", "--no-color"]);
  await install(tarballs, config.cache);
  if (flags.record) recordPackages(join(packageRoot, "docs", "packaging.md"), tarballs, needs);
  if (flags["dry-run"]) return void console.log(`ready in ${join(out, "tarballs")}; nothing was published (--dry-run)`);
  for (const { file } of tarballs) runTool("npm", ["publish", file, "--access", "public", ...(flags.provenance ? ["--provenance"] : [])]);
}

async function build(libtorch: LibtorchLocation, out: string, cuda: boolean): Promise<string> {
  await buildAddon(readConfig(), libtorch, { out, cuda, portable: true });
  return join(out, "Release");
}

async function install(tarballs: readonly Tarball[], cache: string): Promise<void> {
  mkdirSync(cache, { recursive: true });
  using machine = new CleanMachine({ cache });
  const { addon, demo, sum } = await tryInstallation(machine, tarballs.map(({ file }) => file), Number(flags["demo-epochs"]));
  if (!addon.includes("installed by npm") || sum !== 12 || !(demo.trained.recall1 > demo.random.recall1)) {
    throw new Error(`the installed packages do not work as they should: ${JSON.stringify({ addon, demo, sum })}`);
  }
  await machine.run("node", ...consumerTypesCheck(machine.project));
  console.log(`installed without a compiler: ${addon}; the demo's recall@1 rose from ${demo.random.recall1} to ${demo.trained.recall1}`);
}

function kilobytes(bytes: number): string {
  return `${Math.round(bytes / 1000).toLocaleString("en")} kB`;
}
