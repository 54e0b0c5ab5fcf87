import { colourOf, magnitudes, signed } from "./colourScale.js";
import { tickStep, type Plot, type PlotAxis } from "./plot.js";
import { positionSimilarities, type PositionTable } from "./positionTable.js";
import { enlarged, mapSheet, rasterOf, type Raster } from "./raster.js";

/** Rows of a picture of tokens, and maps along one side of a picture of similarities: of larger grids every second one is shown, or fewer. */
const mostTokens = 1200;
const mostMaps = 20;
/** Sides of a picture in pixels, from which it is not enlarged. */
const enough = { width: 700, height: 300 };

/** The embedding itself: a row for each token, a column for each dimension. */
export function positionPlot({ grid, width, values, temperature }: PositionTable): Plot {
  const tokens = 1 + grid[0] * grid[1];
  const every = Math.ceil(tokens / mostTokens);
  const shown = Math.ceil(tokens / every);
  const rows = new Float32Array(shown * width);
  for (let row = 0; row < shown; row++) rows.set(values.subarray(row * every * width, (row * every + 1) * width), row * width);
  const scale = signed(temperature === null ? Math.max(...rows.map(Math.abs)) || 1 : 1, "value of the embedding (no unit)");
  const raster = rasterOf(rows, width, shown, (value) => colourOf(scale, value));
  const quarters = ["sin w", "cos w", "sin h", "cos h"].map((text, i) => ({ from: i / 4, to: (i + 1) / 4, text }));
  return {
    raster: enlarged(raster, Math.max(1, Math.ceil(enough.width / width)), Math.max(1, Math.ceil(enough.height / shown))),
    alt: `position embedding of a grid of ${grid.join(" × ")} patches, ${tokens} tokens by ${width} dimensions`,
    x: { ...countAxis(`dimension (0 to ${width - 1})`, width, 5), ...(temperature !== null && { sections: quarters }) },
    y: countAxis("token (0: class token)", tokens, 6),
    leastHeight: "12rem",
    scale,
  };
}

/** For each position a small map of its similarity to all others, at its place in the grid. */
export function similarityPlot(table: PositionTable): Plot {
  const { grid: [rows, columns] } = table;
  const patches = rows * columns;
  const similarities = positionSimilarities(table);
  const every = Math.ceil(Math.max(rows, columns) / mostMaps);
  const lowest = similarities.reduce((least, each) => Math.min(least, each), 0.9);
  const scale = magnitudes(Math.floor(lowest * 10) / 10, 1, "cosine similarity (1 is the same)");
  const tiles: Raster[] = [];
  for (let row = 0; row < rows; row += every) {
    for (let column = 0; column < columns; column += every) {
      const n = row * columns + column;
      tiles.push(rasterOf(similarities.subarray(n * patches, (n + 1) * patches), columns, rows, (value) => colourOf(scale, value)));
    }
  }
  return {
    raster: mapSheet(tiles, Math.ceil(columns / every), enough.width),
    alt: `cosine similarity of each of ${patches} positions to all others`,
    x: mapAxis("column of the patch", columns, every),
    y: mapAxis("row of the patch", rows, every),
    scale,
  };
}

/** Sentences that tell how to read {@link positionPlot}. */
export function positionCaption({ grid: [rows, columns], width, temperature }: PositionTable): string {
  const tokens = `Each row is one of the ${1 + rows * columns} tokens, each column one of the ${width} dimensions. `;
  if (temperature === null) {
    return `${tokens}These positions were learned or interpolated, so no formula divides the columns into parts.`;
  }
  const named = rows === columns ? "w counts the patch's row and h its column (the names are upstream's)"
    : `patch n has w = ⌊n / ${rows}⌋ and h = n mod ${rows}, as upstream's code counts them: only on square grids are these its row and column`;
  return `${tokens}Row 0, the class token's, is zero. The quarters are sine and cosine of two numbers: ${named}. ` +
    `Waves grow longer from left to right within a quarter, up to almost 2π · ${temperature.toLocaleString("en")} patches (the temperature).`;
}

/** Sentences that tell how to read {@link similarityPlot}. */
export function similarityCaption({ grid: [rows, columns], temperature }: PositionTable): string {
  const every = Math.ceil(Math.max(rows, columns) / mostMaps);
  const which = every === 1 ? "Each small map belongs" : `Each small map (of every ${["second", "third"][every - 2] ?? `${every}th`} row and column) belongs`;
  const seen = temperature === null ? ""
    : rows === columns ? " The brightest pixel is the position itself; near patches, and those in its row and column, are alike."
    : " On a grid that is not square the formula scrambles places, so neighbours need not be alike; upstream does so too.";
  return `${which} to one position of the ${rows} × ${columns} grid and shows its cosine similarity to all others, each at its own place.${seen}`;
}

/** Ticks at round numbers, in the middle of their row or column; the last one too, where there is room. */
function countAxis(title: string, count: number, wanted: number): PlotAxis {
  const step = tickStep(count, wanted);
  const numbers = Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step);
  return { title, ticks: numbers.map((number) => ({ at: (number + 0.5) / count, text: String(number) })) };
}

/** Ticks below the small maps. */
function mapAxis(title: string, count: number, every: number): PlotAxis {
  const maps = Math.ceil(count / every);
  const step = Math.ceil(maps / 10);
  const ticks = Array.from({ length: Math.ceil(maps / step) }, (_, i) => ({ at: (i * step + 0.5) / maps, text: String(i * step * every) }));
  return { title, ticks };
}
