import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Config, childEnvironment, readConfig } from "../config.js";
import { DownloadError } from "./errors.js";
import { installedPackage } from "./installedPackage.js";
import { withLock } from "./lock.mjs";
import { say } from "./progress.js";

/** The npm packages with the demo's images, and their version. */
export const DEMO_PACKAGES = ["emoji-datasource-google", "emoji-datasource-twitter"] as const;
const VERSION = "16.0.0";
/** Without a network npm would say so after minutes: by default it waits 10 s and then 60 s before it tries again. */
const SHORT_WAITS = ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=4000"];

/** Folder of a package with the demo's images: one that is installed beside this package, else that in the cache; null if there is neither. */
export function demoPackage(name: string, config: Config = readConfig()): string | null {
  return installedPackage(name) ?? installedPackage(name, join(cacheFolder(config), "package.json"));
}

/**
 * Fetches the demo's images with npm into the cache, unless they are there. They are 150 MB, of no use for anything else, so this package does not
 * depend on them.
 *
 * @throws DownloadError where npm cannot fetch them
 */
export async function fetchDemoImages(config: Config = readConfig()): Promise<void> {
  const isThere = (): boolean => DEMO_PACKAGES.every((name) => demoPackage(name, config) !== null);
  if (isThere()) return;
  mkdirSync(config.cache, { recursive: true });
  const onWait = (holder: string): void => say(config, `Waiting for ${holder}, which fetches the demo's images`);
  await withLock(join(config.cache, "demo-images.lock"), async () => {
    if (isThere()) return;
    say(config, `Fetching the demo's images with npm (${DEMO_PACKAGES.join(", ")})`);
    const folder = cacheFolder(config);
    const unfinished = `${folder}.part`;
    await rm(unfinished, { recursive: true, force: true });
    mkdirSync(unfinished);
    await install(unfinished);
    await rm(folder, { recursive: true, force: true });
    await rename(unfinished, folder);
    if (!isThere()) throw new DownloadError(`npm has not put ${DEMO_PACKAGES.join(" and ")} into ${folder}; remove that folder and run the command again`);
  }, { onWait });
}

function cacheFolder(config: Config): string {
  return join(config.cache, "demo-images");
}

function install(folder: string): Promise<void> {
  const windows = process.platform === "win32";
  const words = ["install", "--prefix", folder, "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", ...SHORT_WAITS];
  return new Promise((resolve, reject) => {
    const npm = spawn(windows ? "npm.cmd" : "npm", [...words, ...DEMO_PACKAGES.map((name) => `${name}@${VERSION}`)], {
      cwd: folder, shell: windows, stdio: ["ignore", "ignore", "pipe"], env: childEnvironment(),
    });
    let output = "";
    npm.stderr.on("data", (chunk: Buffer) => void (output = (output + chunk.toString()).slice(-4000)));
    const remedy = `and run the command again, or install them beside moco-v3: npm install ${DEMO_PACKAGES.join(" ")}`;
    npm.on("error", (error) => reject(new DownloadError(`npm could not be run (${error.message}): install it ${remedy}`)));
    npm.on("close", (code) =>
      code === 0 && existsSync(join(folder, "node_modules")) ? resolve() : reject(new DownloadError(`npm could not fetch the demo's images: see that there is a network ${remedy}\n${output.trim()}`)));
  });
}
