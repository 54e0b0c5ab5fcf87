import type { Figure } from "./figure.js";
import { tileGrid, type Tile } from "./pictures/tiles.js";

/** Figures of one encoder, as fractions. */
export interface DemoFigures {
  recall1: number;
  recall5: number;
  knn: number;
}

/** A picture in the gallery: a data URI and what it shows. */
export interface GalleryImage {
  src: string;
  name: string;
  /** Whether it shows the query's emoji. */
  isMatch: boolean;
}

export interface GalleryRow {
  query: GalleryImage;
  before: GalleryImage[];
  after: GalleryImage[];
}

const percent = (fraction: number): string => `${(fraction * 100).toFixed(1)} %`;

/**
 * What the demo's report has beyond that of any run.
 *
 * @param summary what was run, in a sentence
 */
export function demoFigures(
  { random, trained, gallery, summary }: { random: DemoFigures; trained: DemoFigures; gallery: readonly GalleryRow[]; summary: string },
): Figure[] {
  const row = (name: string, key: keyof DemoFigures): string =>
    `<tr><th scope="row">${name}</th><td>${percent(random[key])}</td><td>${percent(trained[key])}</td></tr>`;
  const scores = `<table><thead><tr><th scope="col">frozen encoder</th><th scope="col">random</th><th scope="col">trained</th></tr></thead>
<tbody>
${row("same emoji of the other vendor, first hit (recall@1)", "recall1")}
${row("among the first five (recall@5)", "recall5")}
${row("category by nearest neighbours (kNN accuracy)", "knn")}
</tbody></table>`;
  return [
    { id: "scores", title: "MoCo v3 on emoji drawings", caption: summary, body: scores },
    {
      id: "gallery", title: "Nearest drawings of the other vendor",
      caption: "Framed: the same emoji. On the left with random weights, on the right with trained ones; no label was used in training.",
      body: gallery.map(galleryRow).join("\n"),
    },
  ];
}

function galleryRow({ query, before, after }: GalleryRow): string {
  const tile = ({ src, name, isMatch }: GalleryImage): Tile => ({ src, alt: isMatch ? `${name}: the same emoji` : name, caption: "", framed: isMatch });
  // The drawings are on white, in dark colours too.
  const block = (title: string, list: readonly GalleryImage[]): string =>
    `<div style="min-width:0"><div class="small">${title}</div>` +
    `<div style="background:#fff;border-radius:6px;padding:3px">${tileGrid(list.map(tile), list.length)}</div></div>`;
  return `<div style="display:flex;flex-wrap:wrap;gap:.4rem 1.6rem;padding:.5rem 0;border-top:1px solid var(--line)">` +
    `${block("emoji", [query])}${block("random", before)}${block("trained", after)}</div>`;
}
