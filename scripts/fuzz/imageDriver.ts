import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { childEnvironment } from "../../lib/config.js";
import { installCommand } from "../../lib/setup/installCommand.js";
import { packageRoot } from "../../lib/setup/packageRoot.js";

/** What the driver is compiled with. */
export const SANITIZERS = "address,undefined";

/** One line of the driver's: what became of an input. */
export interface Verdict {
  readonly outcome: "decoded" | "refused" | "finding";
  readonly text: string;
}

/** Input for the driver: a file's bytes, and the seed of the boxes and views that are asked of it. */
export interface ImageInput {
  readonly bytes: Buffer;
  readonly seed: number;
}

/** An input that the driver has no answer to for so long hangs. The longest that are allowed take some seconds. */
const HANG_SECONDS = 60;
const IMAGE_FOLDER = join(packageRoot, "native", "image");

/**
 * Compiles the image code and its driver with sanitizers, if that is out of date.
 *
 * @param jpegRoot - where libjpeg-turbo is installed, when that is not in the compiler's own folders
 * @returns the program's path
 */
export function buildDriver(jpegRoot?: string): string {
  const folder = join(packageRoot, "build", "fuzz");
  const program = join(folder, jpegRoot === undefined ? "decodeFuzz" : "decodeFuzzOther");
  const files = readdirSync(IMAGE_FOLDER, { recursive: true, encoding: "utf8" }).map((name) => join(IMAGE_FOLDER, name));
  const newest = Math.max(...files.map((file) => statSync(file).mtimeMs));
  if (jpegRoot === undefined && existsSync(program) && statSync(program).mtimeMs > newest) return program;
  mkdirSync(folder, { recursive: true });
  const library = jpegRoot === undefined ? null : join(jpegRoot, "lib");
  const roots = library === null ? [] : [`-I${join(library, "..", "include")}`, `-L${library}`, `-Wl,-rpath,${library}`];
  const { status, error, stderr } = spawnSync("c++", [
    "-std=c++17", "-O1", "-g", `-fsanitize=${SANITIZERS}`, "-fno-sanitize-recover=all", "-ffp-contract=off", "-DMOCO_WITH_JPEG",
    ...files.filter((file) => file.endsWith(".cc")), "-o", program, ...roots, "-ljpeg", "-lpthread",
  ], { encoding: "utf8" });
  if (status === 0) return program;
  throw new Error(`The fuzzer's driver did not compile: ${error?.message ?? stderr.slice(0, 3000)}\n` +
    `It needs a C++ compiler with sanitizers (${installCommand("compiler")}) and libjpeg-turbo (${installCommand("jpeg")}).`);
}

/** Whether there is what compiling the driver takes: a C++ compiler with these sanitizers, and libjpeg-turbo's headers. */
export function canBuildDriver(): boolean {
  const source = "#include <cstdio>\n#include <jpeglib.h>\nint main() { return 0; }\n";
  const folder = join(packageRoot, "build", "fuzz");
  mkdirSync(folder, { recursive: true });
  const words = [`-fsanitize=${SANITIZERS}`, "-x", "c++", "-", "-o", join(folder, "probe"), "-ljpeg"];
  const { status } = spawnSync("c++", words, { input: source });
  return status === 0;
}

/** The library that the driver was compiled with. */
export function libraryVersion(program: string): string {
  return spawnSync(program, ["version"], { encoding: "utf8" }).stdout.trim();
}

/** Writes the JPEGs to begin with into a folder. */
export function writeSeeds(program: string, folder: string): void {
  const { status, stderr } = spawnSync(program, ["seeds", folder], { encoding: "utf8" });
  if (status !== 0) throw new Error(`The fuzzer's driver wrote no seeds: ${stderr.slice(0, 3000)}`);
}

/**
 * Runs inputs in one process of the driver's.
 *
 * @returns the verdicts, up to the input that the process died of or hung in, if any; and what it died of, at its end perhaps (a leak)
 */
export async function runInputs(program: string, inputs: Iterable<ImageInput>): Promise<{ verdicts: Verdict[]; death: string | null }> {
  const child = spawn(program, ["run"], {
    stdio: ["pipe", "pipe", "pipe"],
    // An allocation that fails is answered with null, as it is outside of the sanitizer.
    env: childEnvironment({ ASAN_OPTIONS: "allocator_may_return_null=1:detect_leaks=1", UBSAN_OPTIONS: "print_stacktrace=1" }),
  });
  const verdicts: Verdict[] = [];
  let stderr = "";
  let hung = false;
  let since = performance.now();
  child.stderr.on("data", (text: Buffer) => (stderr = (stderr + text.toString()).slice(0, 8000)));
  child.stdin.on("error", () => {}); // the process died: its exit tells
  createInterface({ input: child.stdout }).on("line", (line) => {
    const tab = line.indexOf("\t");
    verdicts.push({ outcome: line.slice(0, tab) as Verdict["outcome"], text: line.slice(tab + 1) });
    since = performance.now();
  });
  const watch = setInterval(() => {
    if (performance.now() - since < HANG_SECONDS * 1000) return;
    hung = true;
    child.kill("SIGKILL");
  }, 1000);
  const closed = once(child, "close") as Promise<[number | null, string | null]>;
  for (const { bytes, seed } of inputs) {
    if (child.exitCode !== null || child.signalCode !== null) break;
    const header = Buffer.alloc(8);
    header.writeUInt32LE(bytes.length, 0);
    header.writeUInt32LE(seed, 4);
    child.stdin.write(header);
    if (!child.stdin.write(bytes)) await Promise.race([once(child.stdin, "drain").catch(() => {}), closed]);
  }
  child.stdin.end();
  const [code, signal] = await closed;
  clearInterval(watch);
  if (code === 0) return { verdicts, death: null };
  const cause = hung ? `hung for ${HANG_SECONDS} s` : `died (${signal ?? code})`;
  return { verdicts, death: `${cause}: ${stderr.trim().slice(0, 3000)}` };
}
