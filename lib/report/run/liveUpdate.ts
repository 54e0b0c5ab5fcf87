import type { ChartSpec } from "./chartSpecs.js";
import { chartsOf, epochTables, marksOf, runSeries, type RunSeries } from "./pageData.js";
import { mostBuckets, sampleSteps, type SampledSteps } from "./sampledSteps.js";
import { pageParts, type PageParts, type ShownRun } from "./runParts.js";

/** What a page that follows a run is sent: only what it does not have yet. */
export interface LiveUpdate {
  /** HTML of the parts that are new. */
  parts: Partial<Record<keyof PageParts | "pictures", string>>;
  /** Where there are other charts than before. */
  charts?: ChartSpec[];
  /** For each run: all of its figures, or the steps that have come, and the figures of epochs and marks. Empty where no run is new. */
  runs: { whole?: RunSeries; more?: SampledSteps; rest?: Pick<RunSeries, "knn" | "evaluations" | "marks"> }[];
}

interface SentRun {
  generation: string;
  /** Steps that the page has. */
  rows: number;
  /** Of these, how many were sent one by one since the last whole. */
  single: number;
}

/** What one open page has got, and what it lacks. */
export class LivePage {
  #parts: LiveUpdate["parts"] = {};
  #charts = "";
  #runs: SentRun[] = [];

  /**
   * What the page lacks; null where it has everything.
   *
   * @param generations of the runs; where one changes, steps that were sent hold no longer
   */
  update(runs: readonly ShownRun[], generations: readonly string[], pictures: string): LiveUpdate | null {
    const charts = chartsOf(runs.map(({ history }) => history));
    const parts = { ...pageParts(runs, charts), pictures };
    const update: LiveUpdate = { parts: {}, runs: [] };
    for (const [id, html] of Object.entries(parts) as [keyof typeof parts, string][]) {
      if (this.#parts[id] !== html) update.parts[id] = html;
    }
    this.#parts = parts;
    const chartsText = JSON.stringify(charts);
    if (chartsText !== this.#charts) update.charts = charts;
    this.#charts = chartsText;
    const changes = runs.map((run, i) => this.#change(run, i, generations[i]!));
    const news = Object.keys(update.parts).length > 0;
    // Marks and figures of epochs show in a part, too.
    if (news || changes.some((change) => Object.keys(change).length > 0)) {
      update.runs = changes.map((change, i) => {
        const { history } = runs[i]!;
        return change.whole !== undefined || !news ? change : { ...change, rest: { ...epochTables(history), marks: marksOf(history) } };
      });
      return update;
    }
    return update.charts === undefined ? null : update;
  }

  #change({ name, history }: ShownRun, i: number, generation: string): LiveUpdate["runs"][number] {
    const { length } = history.steps;
    const sent = this.#runs[i];
    const fresh = sent === undefined || sent.generation !== generation ? 0 : length - sent.rows;
    // Once in a while all of it is thinned out again, so that a page that stays open does not grow.
    if (sent === undefined || sent.generation !== generation || sent.single + fresh > 2 * mostBuckets) {
      this.#runs[i] = { generation, rows: length, single: 0 };
      return { whole: runSeries(name, history) };
    }
    if (fresh === 0) return {};
    this.#runs[i] = { generation, rows: length, single: sent.single + fresh };
    return { more: sampleSteps(history.steps, { from: sent.rows }) };
  }
}
