import { escapeHtml } from "./htmlPage.js";

/** One line of a chart: y values over x. */
export interface ChartPoint {
  x: number;
  y: number;
}

export interface LineChartOptions {
  xLabel: string;
  yLabel: string;
  width?: number;
  height?: number;
}

const margin = { left: 56, right: 16, top: 12, bottom: 40 };

/** A line chart as SVG, with axes, units and a grid; colours come from the page's `currentColor` and `--accent`. */
export function lineChart(points: readonly ChartPoint[], options: LineChartOptions): string {
  const { width = 720, height = 280, xLabel, yLabel } = options;
  const finite = points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  if (finite.length === 0) return `<p>No values to draw: ${escapeHtml(yLabel)}.</p>`;
  const xTicks = ticks(Math.min(...finite.map(({ x }) => x)), Math.max(...finite.map(({ x }) => x)));
  const yTicks = ticks(Math.min(...finite.map(({ y }) => y)), Math.max(...finite.map(({ y }) => y)));
  const [x0, x1] = [xTicks[0] as number, xTicks.at(-1) as number];
  const [y0, y1] = [yTicks[0] as number, yTicks.at(-1) as number];
  const left = (x: number): number => margin.left + ((x - x0) / (x1 - x0)) * (width - margin.left - margin.right);
  const top = (y: number): number => height - margin.bottom - ((y - y0) / (y1 - y0)) * (height - margin.top - margin.bottom);
  const path = finite.map(({ x, y }, i) => `${i ? "L" : "M"}${left(x).toFixed(1)} ${top(y).toFixed(1)}`).join("");
  const parts = [
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(`${yLabel} over ${xLabel}`)}">`,
    '<g stroke="currentColor" stroke-opacity=".15">',
    ...yTicks.map((y) => `<path d="M${margin.left} ${top(y).toFixed(1)}H${width - margin.right}"/>`),
    "</g>",
    '<g fill="currentColor" font-size="12" font-family="system-ui, sans-serif">',
    ...yTicks.map((y) => `<text x="${margin.left - 8}" y="${(top(y) + 4).toFixed(1)}" text-anchor="end">${tickText(y)}</text>`),
    ...xTicks.map((x) => `<text x="${left(x).toFixed(1)}" y="${height - margin.bottom + 18}" text-anchor="middle">${tickText(x)}</text>`),
    `<text x="${(width + margin.left) / 2}" y="${height - 4}" text-anchor="middle">${escapeHtml(xLabel)}</text>`,
    `<text transform="translate(14 ${height / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(yLabel)}</text>`,
    "</g>",
    finite.length > 1
      ? `<path d="${path}" fill="none" stroke="var(--accent)" stroke-width="1.5" stroke-linejoin="round"/>`
      : `<circle cx="${left((finite[0] as ChartPoint).x)}" cy="${top((finite[0] as ChartPoint).y)}" r="3" fill="var(--accent)"/>`,
    "</svg>",
  ];
  return parts.join("\n");
}

/** Round values that enclose a range, about five of them. */
function ticks(low: number, high: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 5;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * magnitude).find((candidate) => candidate >= rough) as number;
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function tickText(value: number): string {
  return value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3) ? value.toExponential(1) : String(value);
}
