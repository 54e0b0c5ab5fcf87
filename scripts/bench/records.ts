import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { benchmarkChart } from "./chart.js";
import { BenchmarkError } from "./benchmarkError.js";
import { gpuTargetsTable } from "./gpuTargets.js";
import { presented } from "./presentations/index.js";
import type { BenchmarkResult } from "./result.js";
import { saveResult } from "./saveResult.js";
import { benchmarkPage, benchmarkSection } from "./table.js";
import { targetsTable } from "./targets.js";

const RESULTS = join("benchmarks", "results");
const PAGE = join("docs", "benchmarks.md");

/** The recorded results that have a table and a chart, of the folder `root`. */
export function recordedResults(root = "."): BenchmarkResult[] {
  return presented.map((name) => resultPath(name, root)).filter(existsSync).map((path) => JSON.parse(readFileSync(path, "utf8")) as BenchmarkResult);
}

/** A recorded result, or null. */
export function recordedResult(name: string, root = "."): BenchmarkResult | null {
  return recordedResults(root).find((result) => result.name === name) ?? null;
}

/** All files that are made of results, with their content: a page and a chart for each, and the page of all of them under docs/, where there is one. */
export async function drawn(results: readonly BenchmarkResult[], root = "."): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const result of results) {
    files.set(join(root, RESULTS, `${result.name}.md`), benchmarkPage(result));
    files.set(join(root, RESULTS, `${result.name}.svg`), await benchmarkChart(result));
  }
  const page = join(root, PAGE);
  if (existsSync(page)) files.set(page, withSections(readFileSync(page, "utf8"), recordedResults(root)));
  return files;
}

/** A page whose `<!-- benchmark: NAME -->` sections, each up to `<!-- end -->`, are made of `results`, and so are the tables of targets. */
export function withSections(page: string, results: readonly BenchmarkResult[]): string {
  return page.replaceAll(/(<!-- benchmark: ([\w-]+) -->\n)[\s\S]*?(?=<!-- end -->)/g, (_section: string, opening: string, name: string) => {
    if (name === "targets") return `${opening}\n${targetsTable(results)}\n`;
    if (name === "targets-gpu") return `${opening}\n${gpuTargetsTable(results)}\n`;
    const result = results.find((each) => each.name === name);
    const content = result === undefined ? "*Not recorded yet: the command above does.*\n" : benchmarkSection(result, "../benchmarks/results/");
    return `${opening}\n${content}\n`;
  });
}

/**
 * Writes benchmarks/results/NAME.json of the working folder, and what is made of it.
 *
 * @param warn told why there is no chart, where Vega-Lite is not installed
 * @returns the paths of the files
 */
export async function recordResult(result: BenchmarkResult, warn: (message: string) => void): Promise<string[]> {
  const paths = [saveResult(result), join(RESULTS, `${result.name}.md`)]; // first: what took minutes to measure is kept, whatever becomes of its chart
  writeFileSync(paths[1]!, benchmarkPage(result));
  try {
    return [...new Set([...paths, ...(await redraw([result]))])];
  } catch (error) {
    if (!(error instanceof BenchmarkError)) throw error;
    warn(error.message);
    return paths;
  }
}

/** Draws tables and charts of recorded results anew. */
export async function redraw(results: readonly BenchmarkResult[] = recordedResults()): Promise<string[]> {
  const files = await drawn(results);
  for (const [path, content] of files) writeFileSync(path, content);
  return [...files.keys()];
}

function resultPath(name: string, root = "."): string {
  return join(root, RESULTS, `${name}.json`);
}
