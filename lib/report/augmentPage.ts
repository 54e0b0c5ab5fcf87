import sharp from "sharp";
import type { DecodedImage } from "../data/decoding/decodedImage.js";
import type { AugmentSheet, SheetRow, SheetView } from "./augmentSheet.js";
import { recipeLines, sheetSummary, viewWords } from "./augmentWords.js";
import { escapeHtml, htmlPage } from "./htmlPage.js";

const style = `
:root { --one: light-dark(#c2410c, #ff9d5c); --two: light-dark(#1d4ed8, #8ab4ff); }
body { max-width: 68rem; } .wide { overflow-x: auto; font-size: .9rem; }
th, td { padding: .25rem .7rem; vertical-align: top; white-space: nowrap; }
td:nth-child(2) { text-align: left; white-space: normal; min-width: 14rem; } th.one, th.two { color: var(--colour); }
.row { display: grid; grid-template-columns: 1.5fr 1fr 1fr; gap: 1rem 1.5rem; padding: 1.2rem 0; border-top: 1px solid var(--line); }
.row img, .row svg { display: block; width: 100%; height: auto; border-radius: 4px; } .row svg { overflow: visible; max-height: 24rem; }
.row img.small { image-rendering: pixelated; } .one { --colour: var(--one); } .two { --colour: var(--two); }
rect { fill: none; vector-effect: non-scaling-stroke; stroke: #fff; stroke-width: 4px; } rect.box { stroke-width: 2px; }
rect.one.box { stroke: #c2410c; } rect.two.box { stroke: #1d4ed8; stroke-dasharray: 7 4; }
.view { max-width: 20rem; } .view b { color: var(--colour); }
figcaption, li { font-size: .85rem; line-height: 1.45; overflow-wrap: anywhere; } figcaption { margin-top: .35rem; }
ol { margin: .2rem 0 0; padding-left: 1.6rem; }
.line { display: inline-block; width: 1.6rem; border-top: 3px solid var(--colour); vertical-align: middle; }
.two.line { border-top-style: dashed; }
@media (max-width: 46rem) { .row { grid-template-columns: 1fr 1fr; } .row > :first-child { grid-column: 1 / -1; } }
@media (max-width: 22rem) { .row { grid-template-columns: 1fr; } }
`;

/** Views below this side are drawn with square pixels: a browser would blur them. */
const smallSide = 112;

/** A sheet as one self-contained HTML page. The views are in it without loss, the originals as WebP of quality 80. */
export async function augmentPage(sheet: AugmentSheet): Promise<string> {
  const rows: string[] = [];
  for (const row of sheet.rows) rows.push(await rowHtml(row));
  const { bad } = sheet;
  const lines = recipeLines(sheet).map(({ operation, strength, views }) => {
    const cells = [strength, ...views.flatMap(({ probability, drawn }) => [probability, drawn])];
    return `<tr><th scope="row">${escapeHtml(operation)}</th>${cells.map((text) => `<td>${escapeHtml(text)}</td>`).join("")}</tr>`;
  });
  const body = `<h1>Two views of every image</h1>
<p>${escapeHtml(sheetSummary(sheet))} On the originals, view 1 is what <span class="one line"></span> encloses, view 2
<span class="two line"></span>. Operations are listed in the order in which they are done; what is not listed was not drawn.</p>
<div class="wide"><table>
<thead><tr><th>operation</th><th></th><th class="one">view 1</th><th>drawn</th><th class="two">view 2</th><th>drawn</th></tr></thead>
<tbody>
${lines.join("\n")}
</tbody>
</table></div>
${bad.length === 0 ? "" : `<h2>Cannot be read</h2>\n<ul>${bad.map(badHtml).join("")}</ul>`}
<h2>Images</h2>
${rows.join("\n")}`;
  return htmlPage({ title: "Two views of every image", style, body });
}

function badHtml({ name, reason }: { name: string; reason: string }): string {
  return `<li><bdi>${escapeHtml(name)}</bdi>: ${escapeHtml(reason)}</li>`;
}

async function rowHtml(row: SheetRow): Promise<string> {
  const { name, label, index, width, height, original, views } = row;
  const boxes = ["", " box"].flatMap((kind) =>
    views.map(({ crop }, view) => {
      const { left, top } = crop;
      return `<rect class="${view === 0 ? "one" : "two"}${kind}" x="${left}" y="${top}" width="${crop.width}" height="${crop.height}"/>`;
    }),
  );
  const src = await dataUri(original, { quality: 80 });
  const facts = [`${width} × ${height}`, `image ${index}`, ...(label === null ? [] : [`class ${label}`])].join(", ");
  const alt = escapeHtml(`${name} with the crops of both views`);
  const pictures = await Promise.all(views.map((view, number) => viewHtml(view, number, row)));
  return `<div class="row">
<figure><svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="xMinYMin" role="img" aria-label="${alt}">
<image href="${src}" width="${width}" height="${height}" preserveAspectRatio="none"/>${boxes.join("")}</svg>
<figcaption><bdi>${escapeHtml(name)}</bdi><br>${escapeHtml(facts)}</figcaption></figure>
${pictures.join("\n")}
</div>`;
}

async function viewHtml(view: SheetView, number: number, row: SheetRow): Promise<string> {
  const { pixels } = view;
  const words = viewWords(view, row);
  const small = pixels.width < smallSide ? ' class="small"' : "";
  const alt = escapeHtml(`view ${number + 1} of ${row.name}`);
  return `<figure class="view ${number === 0 ? "one" : "two"}">
<img src="${await dataUri(pixels, { lossless: true })}" width="${pixels.width}" height="${pixels.height}" alt="${alt}"${small}>
<figcaption><b>view ${number + 1}</b><ol>${words.map((each) => `<li>${escapeHtml(each)}</li>`).join("")}</ol></figcaption></figure>`;
}

async function dataUri({ data, width, height }: DecodedImage, options: { quality?: number; lossless?: boolean }): Promise<string> {
  const bytes = await sharp(data, { raw: { width, height, channels: 3 } }).webp(options).toBuffer();
  return `data:image/webp;base64,${bytes.toString("base64")}`;
}
