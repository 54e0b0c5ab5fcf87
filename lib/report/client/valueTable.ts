import type uPlot from "uplot";
import type { ChartSpec } from "../run/chartSpecs.js";
import { formatNumber } from "../run/formatNumber.js";
import type { DrawnLine } from "./chart.js";
import { element } from "./element.js";

const mostRows = 25;

/** A chart's values as a table: all of them, or some at even distances. */
export function valueTable({ title }: ChartSpec, axis: string, lines: readonly DrawnLine[], data: uPlot.AlignedData): HTMLElement {
  const x = data[0];
  // A line and its mean have the same name: the figures themselves are told.
  const shown = lines.map(({ label }, i) => ({ label, values: data[i + 1] as (number | null)[] }))
    .filter(({ label }, i, all) => all.findIndex((each) => each.label === label) === i);
  const count = Math.min(mostRows, x.length);
  const rows = Array.from({ length: count }, (_, i) => (count === 1 ? 0 : Math.round((i * (x.length - 1)) / (count - 1))));
  const number = (value: number | null | undefined): string => (value === null || value === undefined ? "–" : formatNumber(value));
  const head = element("tr", {}, element("th", { scope: "col" }, axis), ...shown.map(({ label }) => element("th", { scope: "col" }, label)));
  const body = rows.map((row) =>
    element("tr", {}, element("th", { scope: "row" }, number(x[row])), ...shown.map(({ values }) => element("td", {}, number(values[row])))));
  const note = x.length > count ? `${count} of the ${x.length.toLocaleString("en")} points that are drawn.` : "";
  return element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Values of ${title}` },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)), element("p", { class: "small" }, note));
}
