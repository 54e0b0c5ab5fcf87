import { mkdirSync, writeFileSync } from "node:fs";

/** Writes benchmarks/results/NAME.json of the working folder. */
export function saveResult(result: { name: string }): string {
  mkdirSync("benchmarks/results", { recursive: true });
  const path = `benchmarks/results/${result.name}.json`;
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  return path;
}
