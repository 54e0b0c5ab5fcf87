import { escapeHtml, escapeLines } from "../htmlPage.js";

/** A picture and the words below it. */
export interface Tile {
  /** A data URI. */
  src: string;
  /** What is seen, for those who cannot. */
  alt: string;
  caption: string;
  /** A frame in the accent's colour. */
  framed?: boolean;
  /** Squares for pixels where it is enlarged. */
  pixelated?: boolean;
}

/** One picture with its words. */
export function tileHtml({ src, alt, caption, framed = false, pixelated = false }: Tile): string {
  const frame = `border:2px solid ${framed ? "var(--accent)" : "transparent"};border-radius:4px`;
  const words = escapeHtml(alt);
  return `<figure style="margin:0;min-width:0"><img src="${src}" alt="${words}" title="${words}"` +
    ` style="display:block;width:100%;height:auto;box-sizing:border-box;${frame}${pixelated ? ";image-rendering:pixelated" : ""}">` +
    `<figcaption style="font-size:.75rem;line-height:1.3;color:var(--muted);overflow-wrap:anywhere">${escapeLines(caption)}</figcaption></figure>`;
}

/** Pictures side by side, as many as fit in the width, or a given number. */
export function tileGrid(tiles: readonly Tile[], columns?: number): string {
  const widths = columns === undefined ? "repeat(auto-fill,minmax(6.2rem,1fr))" : `repeat(${columns},minmax(0,4.6rem))`;
  return `<div style="display:grid;grid-template-columns:${widths};gap:.6rem .5rem">${tiles.map(tileHtml).join("\n")}</div>`;
}
