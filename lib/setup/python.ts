import { spawnSync } from "node:child_process";
import type { Config } from "../config.js";
import { PipNotFoundError, PythonNotFoundError, WAYS_OUT } from "./errors.js";
import { installCommand } from "./installCommand.js";

/** A Python that runs. */
export interface Python {
  /** The command, as given or found on PATH. */
  readonly command: string;
  readonly version: string;
  readonly hasPip: boolean;
}

const OLDEST = [3, 9] as const;
const PROBE = "import sys,importlib.util as u;print('%d.%d.%d'%sys.version_info[:3],int(u.find_spec('pip') is not None))";

/**
 * The Python to use: `MOCO_PYTHON`, else the first of `python3` and `python` that runs and is new enough.
 *
 * @throws {PythonNotFoundError} listing what was tried.
 */
export function findPython(config: Config): Python {
  const tried: string[] = [];
  for (const command of config.python ? [config.python] : ["python3", "python"]) {
    const result = spawnSync(command, ["-c", PROBE], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    const match = /^(\d+)\.(\d+)\.(\d+) ([01])/.exec(result.stdout ?? "");
    if (!match) {
      const reason = result.error ? (result.error as NodeJS.ErrnoException).code : result.stderr.trim().split("\n").pop();
      tried.push(`  ${command}: ${reason === "ENOENT" ? "not found" : (reason ?? "does not run")}`);
      continue;
    }
    const [, major, minor, patch, pip] = match;
    const version = `${major}.${minor}.${patch}`;
    if (Number(major) === OLDEST[0] && Number(minor) >= OLDEST[1]) return { command, version, hasPip: pip === "1" };
    tried.push(`  ${command}: is ${version}, older than ${OLDEST.join(".")}`);
  }
  throw new PythonNotFoundError(
    `No Python ≥ ${OLDEST.join(".")} was found:\n${tried.join("\n")}\n` +
      `It is needed only to fetch libtorch. Install it (${installCommand("python")}), name one with MOCO_PYTHON=/path/to/python, ` +
      `or bring libtorch another way:\n${WAYS_OUT}`,
  );
}

/**
 * As {@link findPython}, with pip.
 *
 * @throws {PipNotFoundError} if that Python has no pip.
 */
export function findPythonWithPip(config: Config): Python {
  const python = findPython(config);
  if (python.hasPip) return python;
  throw new PipNotFoundError(
    `${python.command} (Python ${python.version}) has no pip, which fetches libtorch. Install it ` +
      `(${installCommand("pip")}, or ${python.command} -m ensurepip), or bring libtorch another way:\n${WAYS_OUT}`,
  );
}

/** Where Python would import torch from, without importing it; `null` if it is not installed. */
export function findPythonTorch(python: Python): string | null {
  const code = "import importlib.util as u;s=u.find_spec('torch');print(s.submodule_search_locations[0] if s else '')";
  const result = spawnSync(python.command, ["-c", code], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return result.stdout?.trim() || null;
}
