import type { AugmentSheet, SheetRow } from "../augmentSheet.js";
import { viewWords } from "../augmentWords.js";
import type { Figure } from "../figure.js";
import { escapeHtml } from "../htmlPage.js";
import { webpUri } from "./raster.js";
import { rasterOfPixels, shownUri } from "./shownImage.js";

const colours = ["var(--accent)", "var(--accent2)"];

/** Images of an epoch and the two views that training makes of each. */
export async function viewsFigure(sheet: AugmentSheet): Promise<Figure> {
  const rows = await Promise.all(sheet.rows.map((row) => rowHtml(row)));
  return {
    id: "views",
    title: "Two views of each image",
    caption: `The first images of epoch ${sheet.epoch} (counted from 0) with seed ${sheet.seed}, and the two ${sheet.imageSize}-pixel views that training makes of each. The network ` +
      "learns to recognise that both are of one image. On the image, a full line encloses what view 1 shows, a dashed one view 2.",
    body: `<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1.2rem">${rows.join("\n")}</div>`,
  };
}

async function rowHtml(row: SheetRow): Promise<string> {
  const { name, width, height, views } = row;
  const original = await webpUri(rasterOfPixels(row.original), { side: 260, quality: 75 });
  const boxes = views.map(({ crop }, view) =>
    `<rect x="${crop.left}" y="${crop.top}" width="${crop.width}" height="${crop.height}" fill="none" vector-effect="non-scaling-stroke" style="stroke:${
      colours[view]};stroke-width:2.5px${view === 1 ? ";stroke-dasharray:6 4" : ""}"/>`);
  const pictures = await Promise.all(views.map(async (view, number) => {
    const words = escapeHtml(`view ${number + 1} of ${name}: ${viewWords(view, row).join(", ")}`);
    return `<figure style="margin:0;min-width:0"><img src="${await shownUri(rasterOfPixels(view.pixels))}" alt="${words}" title="${words}"
 style="display:block;width:100%;height:auto;border-radius:4px"><figcaption style="font-size:.75rem;color:${colours[number]}">view ${number + 1}</figcaption></figure>`;
  }));
  return `<div><div style="display:grid;grid-template-columns:1.3fr 1fr 1fr;gap:.5rem;align-items:start">
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(`${name} with the crops of both views`)}" style="display:block;width:100%;max-height:14rem;overflow:visible">
<image href="${original}" width="${width}" height="${height}" preserveAspectRatio="none"/>${boxes.join("")}</svg>
${pictures.join("\n")}</div>
<div style="font-size:.75rem;color:var(--muted);overflow-wrap:anywhere"><bdi>${escapeHtml(name)}</bdi></div></div>`;
}
