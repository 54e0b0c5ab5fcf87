import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { childEnvironment, type Config } from "../config.js";
import { DiskFullError, DownloadError, HashMismatchError, WAYS_OUT } from "./errors.js";
import { startProgress } from "./progress.js";
import { findPythonWithPip, type Python } from "./python.js";
import { PYTHON_TAG, type Wheel } from "./wheels.js";

const POLL_MS = 250;

/**
 * Fetches wheels with pip into a folder, and checks their hashes. A wheel that is there already and is right is not fetched
 * again. pip's own settings (index, proxy, certificates, mirrors) hold: no address is given.
 *
 * @param tags platform tags that pip may take
 * @returns the paths of the wheels, in the order of `wheels`
 * @throws {PythonNotFoundError | PipNotFoundError | DownloadError | HashMismatchError | DiskFullError}
 */
export async function downloadWheels(config: Config, wheels: readonly Wheel[], tags: readonly string[], folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const missing: Wheel[] = [];
  for (const wheel of wheels) if (!(await isThere(wheel, folder))) missing.push(wheel);
  if (missing.length > 0) {
    const python = findPythonWithPip(config);
    await runPip(config, python, missing, tags, folder);
    for (const wheel of missing) await verifyWheel(wheel, join(folder, wheel.file));
  }
  return wheels.map((wheel) => join(folder, wheel.file));
}

/** SHA-256 of a file, in hexadecimal. */
export async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/**
 * Checks a wheel against its pinned hash, and deletes it if it is another file.
 *
 * @throws {HashMismatchError | DownloadError}
 */
async function verifyWheel(wheel: Wheel, file: string): Promise<void> {
  if (!(await exists(file))) throw new DownloadError(`pip did not bring ${wheel.file}; ${advice(wheel)}`);
  const found = await sha256Of(file);
  if (found === wheel.sha256) return;
  await rm(file);
  throw new HashMismatchError(
    `${wheel.file} is not the published file: its SHA-256 is ${found}, expected ${wheel.sha256}. It was deleted; ${advice(wheel)}`,
  );
}

async function isThere(wheel: Wheel, folder: string): Promise<boolean> {
  const file = join(folder, wheel.file);
  if (!(await exists(file))) return false;
  if ((await sha256Of(file)) === wheel.sha256) return true;
  await rm(file);
  return false;
}

async function runPip(config: Config, python: Python, wheels: Wheel[], tags: readonly string[], folder: string): Promise<void> {
  const temporary = join(folder, "pip");
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  // With hashes in a requirements file pip picks the very file among those that an extra index or a mirror offers.
  const requirements = join(temporary, "requirements.txt");
  await writeFile(requirements, wheels.map((each) => `${each.project}==${each.version} --hash=sha256:${each.sha256}\n`).join(""));
  const args = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", ...tags.flatMap((tag) => ["--platform", tag])];
  args.push("--python-version", PYTHON_TAG.version, "--implementation", PYTHON_TAG.implementation, "--abi", PYTHON_TAG.abi);
  args.push("--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--dest", folder, "-r", requirements);

  const total = wheels.reduce((sum, wheel) => sum + wheel.bytes, 0);
  const what = wheels.length === 1 ? `${wheels[0]!.project} ${wheels[0]!.version}` : `${wheels[0]!.project} and ${wheels.length - 1} more`;
  const progress = startProgress(config, `Downloading ${what}`, total, "bytes");
  // pip says nothing machine-readable about its progress, so watch its files grow.
  const timer = setInterval(() => void bytesIn(folder).then((bytes) => progress.update(Math.min(bytes, total))), POLL_MS);
  try {
    const { code, output } = await run(python.command, args, childEnvironment({ TMPDIR: temporary, TEMP: temporary, TMP: temporary }));
    if (code !== 0) throw explainPip(output, wheels[0]!);
  } finally {
    clearInterval(timer);
    progress.end();
    await rm(temporary, { recursive: true, force: true });
  }
}

function run(command: string, args: string[], env: NodeJS.ProcessEnv): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const collect = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-20_000);
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    // Without this pip would go on alone when we are told to stop.
    const stop = (signal: NodeJS.Signals): void => {
      child.kill();
      process.kill(process.pid, signal);
    };
    const release = (): void => void process.off("SIGINT", stop).off("SIGTERM", stop);
    process.once("SIGINT", stop).once("SIGTERM", stop);
    child.on("error", (error) => {
      release();
      reject(error);
    });
    child.on("close", (code) => {
      release();
      resolve({ code, output });
    });
  });
}

function explainPip(output: string, wheel: Wheel): Error {
  const lines = output.split("\n").filter((line) => line.trim());
  const reason = lines.filter((line) => line.startsWith("ERROR")).join("\n") || lines.slice(-5).join("\n");
  if (/No space left on device|Errno 28/.test(output)) {
    const remedy = "Free some space, or set MOCO_CACHE to a folder elsewhere";
    return new DiskFullError(`The disk is full: pip could not store ${wheel.file}. ${remedy}`);
  }
  if (/DO NOT MATCH THE HASHES/.test(output)) {
    const offered = `The index that pip uses offers another ${wheel.project} ${wheel.version} than the published one`;
    return new HashMismatchError(`${offered}; ${advice(wheel)}\n${reason}`);
  }
  return new DownloadError(`pip could not fetch ${wheel.project} ${wheel.version}:\n${reason}\n${advice(wheel)}`);
}

function advice(wheel: Wheel): string {
  return (
    `check the network and pip's settings (python3 -m pip config list), then run \`moco setup\` again.` +
    (wheel.project === "clang-format" ? "" : `\nOr bring libtorch another way:\n${WAYS_OUT}`)
  );
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    bytes += await stat(join(entry.parentPath, entry.name)).then(({ size }) => size, () => 0); // moved meanwhile
  }
  return bytes;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then((found) => found.isFile(), () => false);
}
