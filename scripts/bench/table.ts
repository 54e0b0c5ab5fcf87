import { placeOf, present } from "./presentations/index.js";
import type { BenchmarkResult } from "./result.js";

/** A benchmark's result as a table in Markdown. */
export function benchmarkTable(result: BenchmarkResult): string {
  const { columns, rows } = present(result);
  return markdownTable(columns, rows);
}

export function markdownTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return [columns, columns.map(() => "---"), ...rows].map(line).join("");
}

/** The chart, the table and where it was measured, as they stand on a page. `results` is the way from the page to benchmarks/results. */
export function benchmarkSection(result: BenchmarkResult, results: string): string {
  const { title } = present(result);
  const picture = `![Chart: ${title}; the table has its numbers](${results}${result.name}.svg)`;
  return `${picture}\n\n${benchmarkTable(result)}\n*${placeOf(result)}. Medians, the range in brackets. Raw numbers: [${result.name}.json](${results}${result.name}.json).*\n`;
}

/** NAME.md beside NAME.json. */
export function benchmarkPage(result: BenchmarkResult): string {
  return `# ${present(result).title}\n\n${benchmarkSection(result, "")}`;
}
