import type { EvaluationEntry, KnnEntry } from "../runLog.js";
import { chartSpecs, type ChartSpec } from "./chartSpecs.js";
import type { RunEvent, RunHistory } from "./runHistory.js";
import { sampleSteps, type SampledSteps } from "./sampledSteps.js";
import type { StepColumns } from "./stepColumns.js";
import { runKind } from "./usualOptions.js";

/** Figures of epochs, in the order of the epochs. */
export interface EpochTable {
  /** Steps done when each was measured. */
  x: number[];
  hours: number[];
  y: Record<string, (number | null)[]>;
}

/** What the page's script draws of a run. */
export interface RunSeries {
  name: string;
  stepsPerEpoch: number;
  steps: SampledSteps;
  knn: EpochTable;
  evaluations: EpochTable;
  /** Of each kind at most some hundred, evenly. */
  marks: RunEvent[];
}

/** All that the page's script draws. */
export interface PageData {
  charts: ChartSpec[];
  runs: RunSeries[];
}

const mostMarks = 200;

/** A run's figures for the page; always of bounded size. */
export function runSeries(name: string, history: RunHistory): RunSeries {
  const stepsPerEpoch = history.latest?.stepsPerEpoch ?? 1;
  return { name, stepsPerEpoch, steps: sampleSteps(history.steps), ...epochTables(history), marks: marksOf(history) };
}

/** What may change besides the steps. */
export function epochTables(history: RunHistory): Pick<RunSeries, "knn" | "evaluations"> {
  const { steps, knn, evaluations } = history;
  const perEpoch = history.latest?.stepsPerEpoch ?? 1;
  const table = <T extends KnnEntry | EvaluationEntry>(entries: readonly T[], columns: Record<string, (entry: T) => number | undefined>): EpochTable => {
    const shown = evenly(entries, 2 * mostMarks);
    const x = shown.map(({ epoch }) => (epoch + 1) * perEpoch);
    const y = Object.fromEntries(Object.entries(columns).map(([name, of]) => [name, shown.map((entry) => finite(of(entry)))]));
    return { x, hours: x.map((step) => hoursAt(steps, step)), y };
  };
  return {
    knn: table(knn, { acc1: ({ acc1 }) => acc1, acc5: ({ acc5 }) => acc5 }),
    evaluations: table(evaluations, {
      acc1: ({ acc1 }) => acc1, acc5: ({ acc5 }) => acc5, average: ({ average }) => average?.acc1, loss: ({ loss }) => loss,
    }),
  };
}

export function marksOf(history: RunHistory): RunEvent[] {
  const { events } = history;
  const kinds = [...new Set(events.map(({ kind }) => kind))];
  return kinds.flatMap((wanted) => evenly(events.filter(({ kind }) => kind === wanted), mostMarks)).map(({ kind, step, text }) => ({ kind, step, text: text.slice(0, 200) }));
}

/** The charts for which any of the runs has figures. */
export function chartsOf(histories: readonly RunHistory[]): ChartSpec[] {
  const kinds = new Set(histories.map(({ latest }) => runKind(latest?.options ?? {})));
  return chartSpecs
    .filter(({ source, lines }) => histories.some((history) => {
      if (source === "knn") return history.knn.length > 0;
      if (source === "evaluations") return history.evaluations.length > 0;
      return lines.some(({ column }) => history.steps.has(column as never) && (column !== "scale" || isScaled(history.steps)));
    }))
    .map((spec) => {
      const lines = spec.lines.filter(({ column }) => histories.some((history) => hasColumn(history, spec, column)));
      if (spec.id !== "loss" || !kinds.has("pretrain")) return { ...spec, lines };
      // The contrastive loss is scaled, which the axis has to say.
      const about = `${spec.about} In pre-training it is the contrastive loss of both views together, times 2 × temperature.`;
      return { ...spec, lines, about, unit: "nats × 2 temperature" };
    });
}

function hasColumn(history: RunHistory, { source }: ChartSpec, column: string): boolean {
  if (source === "steps") return history.steps.has(column as never);
  if (source === "evaluations") return column !== "average" || history.evaluations.some(({ average }) => average !== undefined);
  return true;
}

function isScaled(steps: StepColumns): boolean {
  for (let row = 0; row < steps.length; row++) if (steps.value("scale", row) !== 1) return true;
  return false;
}

function hoursAt(steps: StepColumns, step: number): number {
  const row = Math.min(steps.rowOf(step - 1), steps.length - 1);
  return row < 0 ? 0 : Number(steps.hours(row).toPrecision(6));
}

function evenly<T>(all: readonly T[], most: number): T[] {
  if (all.length <= most) return [...all];
  return Array.from({ length: most }, (_, i) => all[Math.round((i * (all.length - 1)) / (most - 1))]!);
}

function finite(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? value : null;
}
