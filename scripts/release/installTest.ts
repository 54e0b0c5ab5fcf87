import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { childEnvironment } from "../../lib/config.js";
import { namesIn } from "../../lib/setup/namesIn.js";

const run = promisify(execFile);

/** What a machine without development tools lacks. */
const TOOLS = /^(.*-)?(c\+\+|cc|g\+\+|gcc|clang|clang\+\+|cpp|c\d\d|ld|as|gold|lld|cmake|ctest|make|gmake|ninja)(-[\d.]+)?$/;

/** A clean folder, with a home of its own and no compiler on the path. */
export class CleanMachine implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "moco-clean-"));
  readonly project = join(this.folder, "project");
  readonly #environment: NodeJS.ProcessEnv;

  /** @param cache folder for what is fetched; default: an empty one */
  constructor({ cache = join(this.folder, "cache") }: { cache?: string } = {}) {
    const bin = join(this.folder, "bin");
    for (const each of [bin, this.project, join(this.folder, "home")]) mkdirSync(each);
    const seen = new Set<string>();
    for (const folder of [dirname(process.execPath), ...(childEnvironment().PATH ?? "").split(":")]) {
      for (const name of namesIn(folder)) {
        if (seen.has(name) || TOOLS.test(name)) continue;
        seen.add(name);
        symlinkSync(join(folder, name), join(bin, name));
      }
    }
    this.#environment = childEnvironment({
      PATH: bin, HOME: join(this.folder, "home"), MOCO_CACHE: cache, NO_COLOR: "1",
      LIBTORCH: undefined, LIBTORCH_USE_PYTORCH: undefined, CC: undefined, CXX: undefined, NODE_PATH: undefined, NODE_OPTIONS: undefined,
      XDG_CACHE_HOME: undefined, npm_config_cache: undefined, npm_config_local_prefix: undefined, npm_config_prefix: undefined,
    });
    writeFileSync(join(this.project, "package.json"), '{ "name": "clean", "private": true, "type": "module" }\n');
  }

  /** Runs a program in the project's folder. @throws with its output if it fails */
  async run(command: string, ...words: string[]): Promise<string> {
    try {
      const { stdout } = await run(command, words, { cwd: this.project, env: this.#environment, maxBuffer: 2 ** 26 });
      return stdout;
    } catch (error) {
      const { stdout = "", stderr = "", message } = error as Error & { stdout?: string; stderr?: string };
      throw new Error(`${[command, ...words].join(" ")} failed without compilers: ${message}\n${stdout}\n${stderr}`, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What the installed package did on the clean machine. */
export interface InstallOutcome {
  /** The addon that `moco doctor` found. */
  addon: string;
  /** What `moco demo --json` printed. */
  demo: { trained: { recall1: number }; random: { recall1: number } };
  /** The sum that a script made with `moco-v3/torch`. */
  sum: number;
}

/**
 * Installs tarballs as a user does, on a machine without compiler and CMake, and uses them: `moco doctor`, `moco demo`, an import.
 *
 * @param demoEpochs of the demo; default: all
 */
export async function tryInstallation(machine: CleanMachine, tarballs: readonly string[], demoEpochs?: number): Promise<InstallOutcome> {
  await machine.run("npm", "install", "--no-audit", "--no-fund", "--loglevel=error", ...tarballs.map((each) => realpathSync(each)));
  const epochs = demoEpochs === undefined ? [] : ["--epochs", String(demoEpochs)];
  const demo = JSON.parse(await machine.run("npx", "moco", "demo", "--json", ...epochs)) as InstallOutcome["demo"];
  const { checks } = JSON.parse(await machine.run("npx", "moco", "doctor", "--json")) as { checks: { name: string; found: string }[] };
  writeFileSync(join(machine.project, "sum.mjs"), 'import { ones } from "moco-v3/torch";\nconsole.log(ones([3, 4]).sum().item());\n');
  const sum = Number(await machine.run("node", "sum.mjs"));
  return { addon: checks.find(({ name }) => name === "addon")?.found ?? "", demo, sum };
}
