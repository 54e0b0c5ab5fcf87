import type { TopLevelSpec } from "vega-lite";
import { BenchmarkError } from "./benchmarkError.js";
import { placeOf, present } from "./presentations/index.js";
import { number } from "./presentations/numbers.js";
import type { Bar, Panel, Presentation } from "./presentations/presentation.js";
import type { BenchmarkResult } from "./result.js";

const INK = "#1f2328";
const MUTED = "#59636e";
const LINE = "#d8dee4";
/** A paper of its own, so that the chart reads the same on a light and on a dark page. */
const PAPER = "#ffffff";
/** Ours comes first and stands out. All have a contrast of 3 at least to the paper. */
const COLOURS = ["#0a66c2", "#8a939d", "#c4621a", "#8250df", "#1a7f5a", "#b0487a", "#9a6700", "#0f8b8d", "#cf222e"];
const WIDTH = 520;
const BAR = 15;

/**
 * A benchmark's result as a chart in SVG, drawn by Vega-Lite without a browser: a panel for each kind of measurement, bars at medians, lines over
 * the ranges.
 *
 * @throws {BenchmarkError} where Vega-Lite is not installed
 */
export async function benchmarkChart(result: BenchmarkResult): Promise<string> {
  const { vega, vegaLite } = await drawing();
  const presentation = present(result);
  const { spec } = vegaLite.compile(specification(presentation, placeOf(result)));
  vega.resetSVGDefIds(); // or the second chart of a process has other ids than the first
  const view = new vega.View(vega.parse(spec), { renderer: "none" });
  try {
    return `${described(await view.toSVG(), presentation)}\n`;
  } finally {
    view.finalize();
  }
}

/** What is used of vega; its own types need a package that it does not bring along. */
interface Vega {
  parse(spec: unknown): object;
  View: new (runtime: object, options: { renderer: "none" }) => { toSVG(): Promise<string>; finalize(): void };
  resetSVGDefIds(): void;
}

/** The drawing packages are for developing only, and loaded only here. */
async function drawing() {
  try {
    const vega = await import("vega");
    const vegaLite = await import("vega-lite");
    return { vega: vega as unknown as Vega, vegaLite };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new BenchmarkError("a chart is drawn with Vega-Lite, which is not installed here; run: npm install --no-save vega vega-lite", { cause: error });
  }
}

function specification({ title, panels, colours = COLOURS }: Presentation, place: string): TopLevelSpec {
  const sides = [...new Set(panels.flatMap(({ bars }) => bars.map(({ side }) => side)))];
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: PAPER,
    padding: 16,
    title: { text: title, subtitle: place, anchor: "start", frame: "group" },
    spacing: 28,
    vconcat: panels.map((panel) => panelOf(panel, sides, colours)),
    resolve: { scale: { x: "independent", y: "independent", color: "shared" } },
    config: {
      font: "system-ui, -apple-system, 'Segoe UI', sans-serif",
      title: { color: INK, fontSize: 16, fontWeight: 600, subtitleColor: MUTED, subtitleFontSize: 10.5, subtitlePadding: 4, offset: 14 },
      axis: {
        labelColor: INK, titleColor: MUTED, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11, gridColor: LINE, domainColor: LINE,
        tickColor: LINE, labelPadding: 6,
      },
      legend: { labelColor: INK, labelFontSize: 11.5, symbolType: "square" },
      view: { stroke: null },
    },
  };
}

type Unit = Extract<TopLevelSpec, { vconcat: unknown }>["vconcat"][number];

function panelOf({ title, axis, bars, write = number, logarithmic, mark }: Panel, sides: readonly string[], colours: readonly string[]): Unit {
  const groups = [...new Set(bars.map(({ group }) => group))];
  const shown = sides.filter((side) => bars.some((each) => each.side === side));
  const values = bars.map((each) => ({ ...each, label: write(each.median), end: Math.max(each.high, each.median) }));
  const lowest = Math.min(...bars.map(({ low }) => low));
  const scale = logarithmic ? { type: "log" as const, domainMin: 10 ** Math.floor(Math.log10(lowest)), nice: false } : { zero: true };
  const y = {
    field: "group", type: "nominal" as const, sort: groups, title: null, axis: { ticks: false, domain: false, labelLimit: 0 }, scale: { paddingInner: 0.28 },
  };
  const yOffset = { field: "side", type: "nominal" as const, sort: shown, scale: { domain: shown, paddingInner: 0.12 } };
  const x = (field: keyof Bar | "end") => ({ field, type: "quantitative" as const, scale, axis: { title: axis, tickCount: 6 } });
  const text = { type: "text" as const, align: "left" as const, dx: 5, fontSize: 10.5 };
  const labels = { y, yOffset, x: x("end"), text: { field: "label" } };
  return {
    title: { text: title, anchor: "start", frame: "group", fontSize: 12.5, fontWeight: 600, color: INK, offset: 8 },
    width: WIDTH,
    height: groups.length * Math.max(22, shown.length * BAR * 1.3),
    data: { values },
    layer: [
      {
        mark: { type: "bar" },
        encoding: {
          y, yOffset, x: { ...x("median"), ...(logarithmic && { stack: null }) }, ...(logarithmic && { x2: { datum: 10 ** Math.floor(Math.log10(lowest)) } }),
          color: {
            field: "side", type: "nominal", scale: { domain: [...sides], range: colours.slice(0, sides.length) },
            legend: sides.length === 1 ? null : { title: null, orient: "top", columns: 3, labelLimit: 0 },
          },
        },
      },
      {
        transform: [{ filter: "datum.high > datum.low" }],
        mark: { type: "rule", color: INK, strokeWidth: 1.2 },
        encoding: { y, yOffset, x: x("low"), x2: { field: "high" } },
      },
      ...(mark === undefined ? [] : [{
        data: { values: [{}] },
        mark: { type: "rule" as const, color: INK, strokeDash: [4, 3] },
        encoding: { x: { datum: mark, type: "quantitative" as const } },
      }]),
      { mark: { ...text, stroke: PAPER, strokeWidth: 3 }, encoding: labels }, // so that no line runs through the number
      { mark: { ...text, color: INK }, encoding: labels },
    ],
  };
}

/** For those who hear a page: a title, and the medians. */
function described(svg: string, { title, panels }: Presentation): string {
  const numbers = panels.map(({ title: what, axis, bars, write = number }) =>
    `${what}, ${axis}: ${bars.map(({ group, side, median }) => `${group}, ${side} ${write(median)}`).join("; ")}.`);
  const text = `<title>${escaped(title)}</title><desc>${escaped(numbers.join(" "))}</desc>`;
  // The elements inside would be read out one by one.
  return svg.replace(/<svg ([^>]*)>/, `<svg role="img" $1>${text}`).replaceAll(/ (?:role|aria-[a-z]+)="(?!img")[^"]*"/g, "");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
