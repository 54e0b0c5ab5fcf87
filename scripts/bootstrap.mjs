// Makes a checkout ready to run: npm packages, compiled TypeScript, libtorch, addon. Does only what is out of date, so that
// every npm script can begin with it. Has no dependencies: it runs before there are any.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { isTooOld, tooOld } from "../lib/setup/nodeVersion.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const at = (...parts) => join(root, ...parts);

const PACKAGES_STAMP = at("node_modules", ".moco-stamp");
const TYPESCRIPT_STAMP = at("dist", ".moco-stamp");
// What runs in Node.js, and what runs in a report's page.
const PROJECTS = [".", "lib/report/client"];
const SOURCE_FOLDERS = ["lib", "scripts", "test"];

class BootstrapError extends Error {}

async function bootstrap() {
  if (isTooOld(process.versions.node)) throw new BootstrapError(tooOld(process.versions.node));
  if (!packagesFresh() || !typescriptFresh()) {
    const { withLock } = await import("../lib/setup/lock.mjs");
    const onWait = (holder) => say(`Waiting for ${holder}, which is making this checkout ready`);
    await withLock(at("build", "bootstrap.lock"), () => {
      if (!packagesFresh()) installPackages();
      if (!typescriptFresh()) compile();
    }, { onWait });
  }
  const { ensureReady } = await import("../dist/lib/setup/index.js");
  await ensureReady();
}

function packagesFresh() {
  return existsSync(at("node_modules")) && read(PACKAGES_STAMP) === hashOf(["package.json", "package-lock.json"]);
}

function installPackages() {
  if (!installedAsLocked()) {
    say("Installing npm packages");
    rmSync(PACKAGES_STAMP, { force: true });
    const windows = process.platform === "win32";
    const { status, error } = spawnSync(windows ? "npm.cmd" : "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: root, shell: windows, stdio: ["ignore", 2, 2], // standard output belongs to the command that comes next
      // Some tests need onnxruntime-node as it comes; its installation would download GPU libraries besides.
      env: { ONNXRUNTIME_NODE_INSTALL: "skip", ...process.env },
    });
    if (error) throw new BootstrapError(`npm could not be run (${error.message}); it comes with Node: https://nodejs.org`);
    if (status !== 0) throw new BootstrapError("npm ci failed; its message is above. Mend that (it needs a network, once) and run the command again");
  }
  writeFileSync(PACKAGES_STAMP, hashOf(["package.json", "package-lock.json"]));
}

// npm's own record of what it has installed: after `npm install` by hand there is nothing to do.
function installedAsLocked() {
  const installed = readPackages(at("node_modules", ".package-lock.json"));
  if (!installed) return false;
  const wanted = Object.entries(readPackages(at("package-lock.json"))).filter(([path]) => path !== "");
  return wanted.every(([path, { version, integrity, optional, devOptional }]) => {
    const found = installed[path];
    if (!found) return Boolean(optional ?? devOptional); // made for another platform
    return found.version === version && found.integrity === integrity && existsSync(at(path));
  });
}

function readPackages(file) {
  const text = read(file);
  return text === null ? null : JSON.parse(text).packages;
}

function typescriptFresh() {
  return existsSync(at("dist", "lib")) && read(TYPESCRIPT_STAMP) === hashOf(sources());
}

function compile() {
  say("Compiling TypeScript");
  rmSync(TYPESCRIPT_STAMP, { force: true });
  const hash = hashOf(sources());
  removeOrphans();
  const tsc = at("node_modules", "typescript", "bin", "tsc");
  for (const project of PROJECTS) {
    const { status } = spawnSync(process.execPath, [tsc, "--project", at(project)], { cwd: root, stdio: ["ignore", 2, 2] });
    if (status !== 0) throw new BootstrapError("The TypeScript did not compile; its errors are above");
  }
  mkdirSync(at("dist"), { recursive: true });
  writeFileSync(TYPESCRIPT_STAMP, hash);
}

// What was compiled from a file that is gone would still be run, above all a test.
function removeOrphans() {
  let removed = false;
  for (const file of filesIn(SOURCE_FOLDERS.map((folder) => join("dist", folder)))) {
    const source = file.replace(/^dist./, "").replace(/(\.d)?\.(m?)[jt]s(\.map)?$/, ".$2ts");
    if (existsSync(at(source)) || existsSync(at(source.replace(/\.mts$/, ".mjs")))) continue;
    rmSync(at(file));
    removed = true;
  }
  // The compiler remembers what it has written, and would not write a file again that has come back.
  if (removed || !existsSync(at("dist", "lib"))) for (const name of [".tsbuildinfo", ".tsbuildinfo-client"]) rmSync(at("dist", name), { force: true });
}

function sources() {
  return ["package-lock.json", "tsconfig.json", ...filesIn(SOURCE_FOLDERS).filter((file) => /\.(ts|mjs)$/.test(file)).sort()];
}

function filesIn(folders) {
  return folders.filter((folder) => existsSync(at(folder))).flatMap((folder) => {
    const skipped = at("test", "fixtures");
    const walk = (path) => readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
      const child = join(path, entry.name);
      if (entry.isDirectory()) return child === skipped ? [] : walk(child);
      return [relative(root, child)];
    });
    return walk(at(folder));
  });
}

function hashOf(files) {
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(at(file))).update("\0");
  return hash.digest("hex");
}

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

function say(line) {
  process.stderr.write(`${line}\n`);
}

try {
  await bootstrap();
} catch (error) {
  // An error of the set-up is told by its message; anything else is our fault, and the stack shows where.
  const told = error instanceof BootstrapError || /Error$/.test(error.name ?? "") && error.name !== "Error" && error.name !== "TypeError";
  say(`error: ${told ? error.message : error.stack}`);
  process.exitCode = 1;
}
