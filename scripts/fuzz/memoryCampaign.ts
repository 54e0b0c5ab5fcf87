import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../lib/config.js";
import { ALLOWANCE } from "./examine.js";
import { hostileKinds, writeHostileFile, type HostileKind } from "./hostileFiles.js";

/** What reading one hostile file took. */
export interface MemoryFigure {
  readonly kind: string;
  readonly fileBytes: number;
  readonly items: number;
  /** Why it was refused; null when it was read. */
  readonly refused: string | null;
  /** Bytes that the process's resident memory rose, and what the promise allows. */
  readonly rise: number;
  readonly limit: number;
  readonly seconds: number;
}

/** The limit on opcodes is 20 million. */
const MOST_ITEMS = 9_000_000;

/**
 * Reads files of `megabytes` of each kind, each in a process of its own; where one is refused for its memory, also one of the same size
 * with as many items as are just not.
 */
export function measureMemory(megabytes: number, only: string | undefined, onFigure: (figure: MemoryFigure) => void): MemoryFigure[] {
  const folder = mkdtempSync(join(tmpdir(), "moco-memory-"));
  const figures: MemoryFigure[] = [];
  try {
    for (const [kind, recipe] of Object.entries(hostileKinds)) {
      if (only !== undefined && !kind.includes(only)) continue;
      const itemBytes = recipe.item(1).length;
      const items = Math.min(MOST_ITEMS, Math.floor((megabytes * 2 ** 20) / itemBytes));
      const measure = (count: number, fileBytes: number): { figure: MemoryFigure; offset: number | null } => {
        const result = probe(join(folder, "hostile.pth"), kind, recipe, count, fileBytes);
        figures.push(result.figure);
        onFigure(result.figure);
        return result;
      };
      const full = measure(items, 0);
      if (full.offset === null || !/twice its size/.test(full.figure.refused ?? "")) continue;
      // The budget ran out at this item. A few less, in a file that an unused entry makes as large, and the value is handed out.
      measure(Math.floor((0.96 * full.offset) / itemBytes), full.figure.fileBytes);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return figures;
}

function probe(
  path: string, kind: string, recipe: HostileKind, items: number, size: number,
): { figure: MemoryFigure; offset: number | null } {
  writeHostileFile(path, recipe, items, size);
  const script = fileURLToPath(new URL("./memoryProbe.js", import.meta.url));
  const warmUp = fileURLToPath(new URL("../../../test/fixtures/unsafe/control_zip.pth", import.meta.url));
  const output = execFileSync(process.execPath, [script, warmUp, path],
    { encoding: "utf8", env: childEnvironment({ OMP_NUM_THREADS: "1" }) });
  type Answer = Pick<MemoryFigure, "refused" | "rise" | "seconds"> & { offset: number | null };
  const { refused, offset, rise, seconds } = JSON.parse(output) as Answer;
  const fileBytes = statSync(path).size;
  return { figure: { kind, fileBytes, items, refused, rise, limit: 2 * fileBytes + ALLOWANCE, seconds }, offset };
}
