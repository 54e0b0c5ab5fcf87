import { join } from "node:path";
import type { Figure } from "../figure.js";
import { writeReportFile } from "../reportFile.js";
import { FollowedRun, runNames } from "./followRun.js";
import { picturesHtml, runPage } from "./runPage.js";

/** A report of runs that was written. */
export interface RunReport {
  out: string;
  bytes: number;
  /** Steps of each run. */
  steps: number[];
  figures: number;
}

/**
 * Writes the report of a run, or of several side by side, as one HTML file that needs nothing else. Logs are read piece by piece: what is kept
 * in memory are some 100 bytes for each step.
 *
 * @param runs folders of runs, or their logs; the first one is the report's own
 * @param options `out`: the file, by default `report.html` in the first run's folder; `title`: by default the folder's name; `figures`: pictures
 * of what the network sees, in the order of the page
 * @throws RunLogError when a log is not there or cannot be read; ReportFileError when the file cannot be written
 * @example
 * await writeRunReport(["runs/first"]);
 * await writeRunReport(["runs/first", "runs/second"], { out: "comparison.html" });
 */
export async function writeRunReport(
  runs: readonly string[], { out, title, figures = [] }: { out?: string; title?: string; figures?: readonly Figure[] } = {},
): Promise<RunReport> {
  const followed = runs.map((run) => new FollowedRun(run));
  for (const run of followed) await run.readAll();
  const names = runNames(followed);
  const page = Buffer.from(runPage(followed.map((run, i) => run.shown(names[i]!)), { title, pictures: picturesHtml(figures) }));
  const path = out ?? join(followed[0]!.folder, "report.html");
  await writeReportFile(path, page);
  return { out: path, bytes: page.length, steps: followed.map(({ history }) => history.steps.length), figures: figures.length };
}
