/** The packages as users get them: assembled, packed, and installed where there is no compiler and no CMake. */
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "@jest/globals";
import { readConfig } from "../../lib/config.js";
import { buildFolder } from "../../lib/setup/addonPlace.js";
import { DEMO_PACKAGES } from "../../lib/setup/demoImages.js";
import { findLibtorch } from "../../lib/setup/findLibtorch.js";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { assemblePackages } from "../../scripts/release/assemble.js";
import { consumerTypesCheck } from "../../scripts/release/consumerTypes.js";
import { CleanMachine, tryInstallation } from "../../scripts/release/installTest.js";
import { pack } from "../../scripts/release/pack.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("install");
const libtorch = findLibtorch(readConfig());

test("npm install of the tarballs and moco demo work without compilers; the binaries are npm's", async () => {
  const binaries = [{ folder: buildFolder, version: libtorch.version }];
  const packages = assemblePackages({ root: packageRoot, binaries, notices: "licences\n" }, join(folder, "packages"));
  const tarballs = packages.map((each) => pack(each, join(folder, "tarballs")));

  const main = tarballs.at(-1)!;
  const manifest = JSON.parse(readFileSync(join(main.folder, "package.json"), "utf8")) as Record<string, Record<string, string>>;
  expect(manifest.optionalDependencies).toMatchObject(Object.fromEntries(tarballs.slice(0, -1).map(({ name }) => [name, manifest.version])));
  expect(manifest.devDependencies).toBeUndefined();
  expect(main.paths).toEqual(expect.arrayContaining(["LICENSE", "README.md", "dist/lib/cli/main.js", "dist/lib/index.d.ts", "native/addon.cc", "CMakeLists.txt"]));
  expect(main.paths.filter((path) => /\.node$|^dist\/test|\.tsbuildinfo$/.test(path))).toEqual([]);
  // Nothing but our binaries: libtorch itself is fetched, or the user's.
  expect(tarballs[0]!.paths.filter((path) => path.startsWith("libtorch-")).map((path) => basename(path)).sort()).toEqual(["moco.node", "moco_loader.node"]);

  // What is fetched lies in the cache already, so that this test fetches npm's packages only.
  const cache = join(folder, "cache");
  mkdirSync(join(cache, "demo-images", "node_modules"), { recursive: true });
  for (const name of DEMO_PACKAGES) symlinkSync(join(packageRoot, "node_modules", name), join(cache, "demo-images", "node_modules", name));
  symlinkSync(dirname(libtorch.root), join(cache, basename(dirname(libtorch.root))));

  using machine = new CleanMachine({ cache });
  await expect(machine.run("sh", "-c", "command -v c++ g++ gcc cc clang cmake make ninja")).rejects.toThrow();
  const { addon, demo, sum } = await tryInstallation(machine, tarballs.map(({ file }) => file), 1);
  expect(addon).toMatch(/node_modules\/@moco-v3\/linux-x64\/libtorch-.*, installed by npm/);
  expect(demo.trained.recall1).toBeGreaterThan(demo.random.recall1);
  expect(sum).toBe(12);
  await machine.run("node", ...consumerTypesCheck(machine.project));

  // Without them it would have to be built, and says what that takes.
  await machine.run("rm", "-r", "node_modules/@moco-v3");
  await expect(machine.run("npx", "moco", "demo", "--epochs", "1")).rejects.toThrow(/CMake, which builds the addon, was not found/);
  await expect(machine.run("node", "sum.mjs")).rejects.toThrow(/no native addon for libtorch .* @moco-v3\/linux-x64, is not installed[\s\S]*npx moco setup/);
}, 300_000);
