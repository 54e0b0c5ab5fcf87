import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Gives `use` a new folder for the files of a measurement, and removes it afterwards. */
export async function withMeasuredFolder<T>({ dir }: { dir?: string }, use: (folder: string) => Promise<T>): Promise<T> {
  if (dir !== undefined) mkdirSync(dir, { recursive: true });
  const folder = mkdtempSync(join(dir ?? tmpdir(), "moco-bench-"));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
