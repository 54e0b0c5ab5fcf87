import uPlot from "uplot";
import { axisRange, logRange, logTicks } from "../run/axisRange.js";
import type { ChartSpec } from "../run/chartSpecs.js";
import { axisWords, chartTable } from "../run/chartTable.js";
import { formatNumber, formatTick } from "../run/formatNumber.js";
import type { RunSeries } from "../run/pageData.js";
import { element, toggle } from "./element.js";
import { drawMarks } from "./marks.js";
import { faint, seriesColours } from "./palette.js";
import type { Settings } from "./settings.js";
import { valueTable } from "./valueTable.js";

const font = "12px system-ui, sans-serif";
const dashes = [[], [6, 4], [2, 3], [10, 3, 2, 3], [1, 2]];
/** With so few points each is drawn as a dot. */
const fewPoints = 40;
const plotHeight = 230;

/** One line of a chart: of one run, and one of its figures. */
export interface DrawnLine {
  label: string;
  run: number;
  line: number;
  colour: string;
  dash: number[];
}

/** What charts tell the page. */
export interface ChartHost {
  settings: Settings;
  zoom(range: { min: number; max: number } | null): void;
}

/** A chart with its words, legend and table of values. */
export class Chart {
  readonly card: HTMLElement;
  #runs: readonly RunSeries[] = [];
  #plot: uPlot | null = null;
  #lines: DrawnLine[] = [];
  #data: uPlot.AlignedData = [[]];
  /** Which series are drawn, and how. */
  #shape = "";
  readonly #hidden = new Set<number>();
  readonly #place = element("div", { class: "plot", tabindex: 0, role: "img" });
  readonly #legend = element("div", { class: "legend" });
  readonly #spoken = element("p", { class: "hidden", "aria-live": "polite" });
  readonly #table = element("details", {}, element("summary", {}, "Table of values"));

  constructor(readonly spec: ChartSpec, private readonly host: ChartHost) {
    const title = element("h3", { id: `${spec.id}-title` }, spec.title);
    this.card = element("figure", { class: "chart", id: `chart-${spec.id}`, "aria-labelledby": `${spec.id}-title` });
    this.card.append(title, this.#place, this.#legend, this.#spoken, element("figcaption", { class: "small" }, spec.about), this.#table);
    this.#place.addEventListener("keydown", (event) => this.#key(event));
    this.#place.addEventListener("dblclick", () => host.zoom(null));
    this.#table.addEventListener("toggle", () => this.#fillTable());
    new ResizeObserver(() => this.#resize()).observe(this.#place);
  }

  /**
   * Draws other figures, or the same with other settings.
   *
   * @param settled whether nothing but the figures is new, so that cursor and legend may stay
   */
  draw(runs: readonly RunSeries[], settled = false): void {
    const several = runs.length > 1;
    const { axis, smooth, palette, hiddenRuns } = this.host.settings;
    this.#runs = runs;
    const shown = runs.map((run, i) => ({ run, i })).filter(({ i }) => !hiddenRuns.has(i));
    const tables = shown.map(({ run }) => chartTable(this.spec, run, axis, smooth));
    const series: uPlot.Series[] = [{}];
    this.#lines = [];
    const parts: uPlot.AlignedData[] = [];
    tables.forEach((table, k) => {
      const { i, run } = shown[k]!;
      const columns: (number | null)[][] = [];
      this.spec.lines.forEach((line, j) => {
        const colour = palette.series[(several ? i : j) % seriesColours]!;
        const dash = several ? dashes[j % dashes.length]! : [];
        const visible = !this.#hidden.has(j);
        const raw = table.y[j]!;
        const smoothed = table.smooth?.[j];
        const dots = raw.filter((value) => value !== null).length <= fewPoints;
        const common = { show: visible, dash, spanGaps: true, scale: "y" };
        columns.push(raw);
        series.push({ ...common, stroke: smoothed === undefined ? colour : faint(colour, 0.35), width: smoothed === undefined ? 1.5 : 1, points: { show: dots, size: 6, fill: colour, stroke: colour } });
        if (smoothed !== undefined) {
          columns.push(smoothed);
          series.push({ ...common, stroke: colour, width: 2, points: { show: false } });
        }
        const label = several ? (this.spec.lines.length > 1 ? `${run.name}: ${line.label}` : run.name) : line.label;
        for (let copy = smoothed === undefined ? 1 : 0; copy < 2; copy++) this.#lines.push({ label, run: i, line: j, colour, dash });
      });
      parts.push([table.x, ...columns]);
    });
    this.#data = parts.length === 0 ? [[]] : parts.length === 1 ? parts[0]! : uPlot.join(parts);
    const shape = JSON.stringify(series.map(({ show, points }) => [show, points?.show]));
    if (settled && this.#plot !== null && shape === this.#shape) {
      this.#plot.setData(this.#data);
      this.#fillLegend(this.#plot.cursor.idxs ?? null);
    } else {
      this.#plot?.destroy();
      this.#place.replaceChildren();
      this.#plot = new uPlot(this.#options(series), this.#data, this.#place);
      this.#shape = shape;
      this.#fillLegend(null);
    }
    this.#place.setAttribute("aria-label", this.#inWords());
    this.#fillTable();
  }

  /** Shows the part of the axis that the settings have. */
  rescale(): void {
    if (this.#plot !== null) this.#plot.setData(this.#data);
  }

  #options(series: uPlot.Series[]): uPlot.Options {
    const { palette, axis } = this.host.settings;
    const { log, include, unit } = this.spec;
    const axisStyle = { stroke: palette.muted, font, labelFont: font, grid: { stroke: palette.line, width: 1 }, ticks: { stroke: palette.line, width: 1, size: 4 }, labelSize: 18 };
    return {
      width: this.#width, height: plotHeight, series, padding: [12, 24, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, range: (_, min, max) => this.#xRange(min, max) },
        y: log ? { distr: 3, range: (_, min, max) => logRange(min, max) } : { range: (_, min, max) => axisRange(min, max, include) },
      },
      axes: [
        { ...axisStyle, label: axisWords[axis], space: 64, size: 30, values: (_, splits) => splits.map((value) => (axis === "steps" && !Number.isInteger(value) ? "" : formatTick(value))) },
        {
          ...axisStyle, label: log ? `${unit} (log)` : unit, scale: "y", space: 30,
          ...(log ? { splits: (_: uPlot, __: number, min: number, max: number) => logTicks(min, max), filter: (_: uPlot, splits: number[]) => splits } : {}),
          values: (_, splits) => splits.map((value) => (value === null ? "" : formatTick(value))),
          size: (plot, values) => this.#axisSize(plot, values),
        },
      ],
      cursor: {
        sync: { key: "report", scales: ["x", null] }, y: false, drag: { x: true, y: false, setScale: false },
        dataIdx: (plot, line, row) => nearest(plot.data[line] as (number | null)[], row),
        points: { size: 7 }, bind: { dblclick: () => null },
      },
      hooks: {
        draw: [(plot) => this.host.settings.marks && drawMarks(plot, this.#runs, this.host.settings)],
        setCursor: [(plot) => this.#fillLegend(plot.cursor.idxs ?? null)],
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width < 4) return;
          const range = { min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") };
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.host.zoom(range);
        }],
      },
    };
  }

  get #width(): number {
    return Math.max(200, Math.floor(this.#place.clientWidth));
  }

  #resize(): void {
    if (this.#plot !== null && this.#plot.width !== this.#width) this.#plot.setSize({ width: this.#width, height: plotHeight });
  }

  #xRange(min: number, max: number): [number, number] {
    const { zoom } = this.host.settings;
    if (zoom !== null) return [zoom.min, zoom.max];
    if (!Number.isFinite(min) || !Number.isFinite(max)) return [0, 1];
    return min < max ? [min, max] : [min - Math.max(0.5, min * 0.1), max + Math.max(0.5, max * 0.1)];
  }

  /** Room for the longest label of the vertical axis. */
  #axisSize(plot: uPlot, values: string[] | null): number {
    plot.ctx.save();
    plot.ctx.font = font;
    const widest = Math.max(14, ...(values ?? []).map((value) => plot.ctx.measureText(value ?? "").width));
    plot.ctx.restore();
    return Math.ceil(widest) + 12;
  }

  /** What each line has where the cursor is, or at its end. */
  #fillLegend(rows: readonly (number | null)[] | null): void {
    const column = (line: number): (number | null)[] => this.#data[line + 1] as (number | null)[];
    const valueOf = (line: number): number | null => {
      const row = rows?.[line + 1];
      return row === null || row === undefined ? (column(line).findLast((value) => value !== null && value !== undefined) ?? null) : (column(line)[row] ?? null);
    };
    // Of a line and its mean, the mean is the one that is told.
    const told = this.#lines.map((line, i) => ({ line, i })).filter(({ line, i }) => {
      const next = this.#lines[i + 1];
      return next === undefined || next.run !== line.run || next.line !== line.line;
    });
    const texts = told.map(({ i }) => {
      const value = valueOf(i);
      return value === null ? "–" : formatNumber(value, 5);
    });
    const buttons = [...this.#legend.querySelectorAll<HTMLElement>("[data-key]")];
    if (buttons.length === told.length && buttons.every((button, k) => button.dataset.key === told[k]!.line.label)) {
      buttons.forEach((button, k) => (button.querySelector("output")!.textContent = texts[k]!));
      buttons.forEach((button, k) => button.style.setProperty("--key", told[k]!.line.colour));
      return;
    }
    this.#legend.replaceChildren(...told.map(({ line }, k) => {
      const key = element("span", { class: line.dash.length > 0 ? "key dashed" : "key" });
      const words = [key, `${line.label} `, element("output", {}, texts[k]!)];
      // One line alone is not to be taken away.
      const button = told.length === 1 ? element("span", { class: "alone" }, ...words) : toggle(words, !this.#hidden.has(line.line), (shown) => {
        if (shown) this.#hidden.delete(line.line);
        else this.#hidden.add(line.line);
        this.draw(this.#runs);
        for (const other of this.#legend.querySelectorAll<HTMLButtonElement>(`[data-line="${line.line}"]`)) other.setAttribute("aria-pressed", String(shown));
      });
      button.style.setProperty("--key", line.colour);
      button.dataset.key = line.label;
      button.dataset.line = String(line.line);
      return button;
    }));
  }

  /** The chart for who cannot see it. */
  #inWords(): string {
    const { title, unit } = this.spec;
    const lines = new Map<string, number[]>();
    this.#lines.forEach(({ label }, i) => {
      // Of a line and its mean, the line.
      if (!lines.has(label)) lines.set(label, (this.#data[i + 1] as (number | null)[]).filter((value) => value !== null && value !== undefined));
    });
    const words = [...lines].map(([label, values]) => {
      if (values.length === 0) return `${label}: no values`;
      const low = values.reduce((a, b) => Math.min(a, b));
      const high = values.reduce((a, b) => Math.max(a, b));
      return `${label}: from ${formatNumber(values[0]!)} to ${formatNumber(values.at(-1)!)}, between ${formatNumber(low)} and ${formatNumber(high)}`;
    });
    return `Chart of ${title}, in ${unit}, over ${axisWords[this.host.settings.axis]}. ${words.join(". ")}. Arrow keys move through the values, plus and minus zoom, 0 shows all.`;
  }

  #fillTable(): void {
    if (!this.#table.open) return;
    const summary = this.#table.firstElementChild!;
    this.#table.replaceChildren(summary, valueTable(this.spec, axisWords[this.host.settings.axis], this.#lines, this.#data));
  }

  #key(event: KeyboardEvent): void {
    const plot = this.#plot;
    const x = this.#data[0];
    if (plot === null || x.length === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const { min = 0, max = 1 } = plot.scales.x as { min?: number; max?: number };
    const first = plot.valToIdx(min);
    const last = plot.valToIdx(max);
    const now = plot.cursor.idx ?? last;
    const far = Math.max(1, Math.round((last - first) / 20));
    const moves: Record<string, number> = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - far, PageDown: now + far, Home: first, End: last };
    const to = moves[event.key];
    if (to !== undefined) {
      const row = Math.min(last, Math.max(first, to));
      plot.setCursor({ left: plot.valToPos(x[row]!, "x"), top: 10 });
      this.#spoken.textContent = `${axisWords[this.host.settings.axis]}: ${formatNumber(x[row]!)}. ${this.#legend.innerText}`;
    } else if (event.key === "+" || event.key === "=" || event.key === "-") {
      const factor = event.key === "-" ? 2 : 0.5;
      const centre = x[now]!;
      const range = { min: Math.max(x[0]!, centre - factor * (centre - min)), max: Math.min(x[x.length - 1]!, centre + factor * (max - centre)) };
      if (range.max > range.min) this.host.zoom(range.min <= x[0]! && range.max >= x[x.length - 1]! ? null : range);
    } else if (event.key === "0" || event.key === "Escape") {
      this.host.zoom(null);
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** The row nearest to one that has a value; so lines of several runs can be read off at one place. */
function nearest(values: readonly (number | null | undefined)[], row: number): number | null {
  for (let far = 0; far < values.length; far++) {
    for (const at of [row - far, row + far]) if (values[at] !== null && values[at] !== undefined) return at;
  }
  return null;
}
