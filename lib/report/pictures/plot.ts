import { escapeHtml } from "../htmlPage.js";
import { barNumbers, colourBar, cssColour } from "./colourBar.js";
import type { ColourScale } from "./colourScale.js";
import { pngUri, type Raster } from "./raster.js";

/** One side of a plot. Places are shares of its length. */
export interface PlotAxis {
  title: string;
  ticks: readonly { at: number; text: string }[];
  /** Parts with a name each, divided by lines; the x axis only. */
  sections?: readonly { from: number; to: number; text: string }[];
}

/** A raster with axes, and the scale of its colours. */
export interface Plot {
  raster: Raster;
  /** What is seen, for those who cannot. */
  alt: string;
  x: PlotAxis;
  y: PlotAxis;
  scale: ColourScale;
  /** Draw pixels as squares where they are enlarged. */
  pixelated?: boolean;
  /** CSS height that the picture has at least, at the cost of its proportions. */
  leastHeight?: string;
}

/** Steps of 1, 2 or 5 times a power of ten, of which about `wanted` fit. */
export function tickStep(length: number, wanted: number): number {
  const least = length / wanted;
  const power = 10 ** Math.floor(Math.log10(least));
  return Math.max(1, [1, 2, 5, 10].find((step) => step * power >= least)! * power);
}

/** Ink on a raster, and in a drawing that is a file of its own. */
const ink = "#222";
const muted = "#555";

const percent = (share: number): string => `${Number((100 * share).toFixed(3))}%`;

/** A plot as HTML: its text keeps its size whatever the width. */
export async function plotHtml(plot: Plot): Promise<string> {
  const { raster, x, y, scale, alt, pixelated = false, leastHeight } = plot;
  const small = "font-size:.75rem;line-height:1;color:var(--muted);white-space:nowrap";
  const xTicks = x.ticks.map(({ at, text }) =>
    `<span style="position:absolute;left:${percent(at)};top:.3rem;transform:translateX(-50%)">${escapeHtml(text)}</span>`);
  const yTicks = y.ticks.map(({ at, text }) =>
    `<span style="position:absolute;top:${percent(at)};right:.4rem;transform:translateY(-50%)">${escapeHtml(text)}</span>`);
  const sections = x.sections ?? [];
  const names = sections.map(({ from, to, text }) =>
    `<span style="position:absolute;left:${percent((from + to) / 2)};bottom:.25rem;transform:translateX(-50%)">${escapeHtml(text)}</span>`);
  const lines = sections.slice(1).map(({ from }) =>
    `<span style="position:absolute;left:${percent(from)};top:0;bottom:0;border-left:2px solid ${ink};margin-left:-1px"></span>`);
  const widest = Math.max(1, ...y.ticks.map(({ text }) => text.length));
  return `<div style="display:grid;grid-template-columns:1.2rem ${widest * 0.5 + 0.6}rem minmax(0,1fr)">
<div style="grid-area:2/1;position:relative;${small}"><span style="position:absolute;top:50%;left:.6rem;transform:translate(-50%,-50%) rotate(-90deg)">${escapeHtml(y.title)}</span></div>
<div style="grid-area:1/3;position:relative;height:${sections.length > 0 ? "1.5rem" : 0};${small}">${names.join("")}</div>
<div style="grid-area:2/2;position:relative;${small}">${yTicks.join("")}</div>
<div style="grid-area:2/3;position:relative"><img src="${await pngUri(raster)}" width="${raster.width}" height="${raster.height}"
 alt="${escapeHtml(alt)}" style="display:block;width:100%;height:auto${leastHeight === undefined ? "" : `;min-height:${leastHeight}`}${pixelated ? ";image-rendering:pixelated" : ""}">${lines.join("")}</div>
<div style="grid-area:3/3;position:relative;height:1.3rem;${small}">${xTicks.join("")}</div>
<div style="grid-area:4/3;text-align:center;${small}">${escapeHtml(x.title)}</div></div>
${colourBar(scale)}`;
}

/** Where a plot's raster lies in a drawing. */
export interface PlotPlace {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** A plot as elements of an SVG file. Axes and bar lie around the place: 60 to the left, 20 above, 96 below. */
export async function plotSvg(plot: Plot, { left, top, width, height }: PlotPlace): Promise<string> {
  const { raster, x, y, scale, pixelated = false } = plot;
  const text = (at: [number, number], words: string, attributes = ""): string =>
    `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" fill="${muted}" font-size="12" ${attributes}>${escapeHtml(words)}</text>`;
  const bottom = top + height;
  const sections = x.sections ?? [];
  const barId = `bar${Math.round(left)}-${Math.round(top)}`;
  const barTop = bottom + 52;
  const barWidth = Math.min(240, width);
  const stops = scale.stops.map((stop, i) => `<stop offset="${i / (scale.stops.length - 1)}" stop-color="${cssColour(stop).replaceAll(" ", ",")}"/>`);
  const anchors = ["start", "middle", "end"];
  return [
    `<image x="${left}" y="${top}" width="${width}" height="${height}" preserveAspectRatio="none" href="${await pngUri(raster)}"` +
      `${pixelated ? ' style="image-rendering:pixelated"' : ""}/>`,
    ...sections.map((part) => text([left + ((part.from + part.to) / 2) * width, top - 8], part.text, 'text-anchor="middle"')),
    ...sections.slice(1).map(({ from }) => `<path d="M${(left + from * width).toFixed(1)} ${top - 6}V${bottom + 6}" stroke="${ink}" stroke-width="2"/>`),
    ...x.ticks.map(({ at, text: words }) => text([left + at * width, bottom + 18], words, 'text-anchor="middle"')),
    ...y.ticks.map(({ at, text: words }) => text([left - 8, top + at * height + 4], words, 'text-anchor="end"')),
    text([left + width / 2, bottom + 36], x.title, 'text-anchor="middle"'),
    text([0, 0], y.title, `transform="translate(${left - 46} ${top + height / 2}) rotate(-90)" text-anchor="middle"`),
    `<linearGradient id="${barId}">${stops.join("")}</linearGradient>`,
    `<rect x="${left}" y="${barTop}" width="${barWidth}" height="10" fill="url(#${barId})" stroke="#ccc"/>`,
    ...barNumbers(scale).map((words, i) => text([left + (i / 2) * barWidth, barTop + 24], words, `text-anchor="${anchors[i]}"`)),
    text([left, barTop + 40], scale.label),
  ].join("\n");
}
