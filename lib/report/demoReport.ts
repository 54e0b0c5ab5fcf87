import { escapeHtml, htmlPage } from "./htmlPage.js";
import { lineChart, type ChartPoint } from "./lineChart.js";

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

export interface DemoReport {
  random: DemoFigures;
  trained: DemoFigures;
  losses: ChartPoint[];
  gallery: GalleryRow[];
  /** What was run, in a sentence. */
  summary: string;
}

const style = `
:root { --hit: light-dark(#1a7f37, #57d977); } svg { width: 100%; height: auto; }
.row { display: grid; grid-template-columns: 5rem 1fr 1fr; gap: 1.5rem; padding: .6rem 0; border-bottom: 1px solid var(--line); align-items: center; }
.images { display: flex; flex-wrap: wrap; gap: .4rem; }
.row img { width: 48px; height: 48px; padding: 3px; border-radius: 8px; background: #fff; border: 2px solid transparent; display: block; }
.row img.hit { border-color: var(--hit); } .head { font-weight: 600; }
@media (max-width: 40rem) { .row { grid-template-columns: 4rem 1fr; } .row > :nth-child(3) { grid-column: 2; } .head { display: none; } }
`;

const percent = (fraction: number): string => `${(fraction * 100).toFixed(1)} %`;

function images(list: readonly GalleryImage[]): string {
  const figures = list.map(({ src, name, isMatch }) => {
    const text = escapeHtml(isMatch ? `${name}: the same emoji` : name);
    return `<figure><img src="${src}" alt="${text}" title="${text}"${isMatch ? ' class="hit"' : ""}></figure>`;
  });
  return `<div class="images">${figures.join("")}</div>`;
}

/** The demo's result as one self-contained HTML page. */
export function demoReportHtml({ random, trained, losses, gallery, summary }: DemoReport): string {
  const row = (name: string, key: keyof DemoFigures): string =>
    `<tr><td>${name}</td><td>${percent(random[key])}</td><td>${percent(trained[key])}</td></tr>`;
  const body = `<h1>MoCo v3 on emoji drawings</h1>
<p>${escapeHtml(summary)}</p>
<table>
<thead><tr><th>frozen encoder</th><th>random</th><th>trained</th></tr></thead>
<tbody>
${row("same emoji of the other vendor, first hit (recall@1)", "recall1")}
${row("among the first five (recall@5)", "recall5")}
${row("category by nearest neighbours (kNN accuracy)", "knn")}
</tbody>
</table>
<h2>Contrastive loss</h2>
${lineChart(losses, { xLabel: "epoch", yLabel: "loss" })}
<h2>Nearest drawings of the other vendor</h2>
<p>Framed: the same emoji. No label was used in training.</p>
<div class="row head"><span>query</span><span>before training</span><span>after training</span></div>
${gallery.map(({ query, before, after }) => `<div class="row">${images([query])}${images(before)}${images(after)}</div>`).join("\n")}`;
  return htmlPage({ title: "MoCo v3 demo", style, body });
}
