import type { Figure } from "../figure.js";
import { escapeHtml } from "../htmlPage.js";
import { colourOf, magnitudes, type ColourScale } from "./colourScale.js";
import { plotHtml } from "./plot.js";
import { enlarged, mapSheet, rasterOf, webpUri, type Raster } from "./raster.js";
import { nameOfImage, shownUri, type ShownImage } from "./shownImage.js";
import { tileGrid, type Tile } from "./tiles.js";

/** The class token's attention, as `VisionTransformer.classAttention` gives it. */
export interface ClassAttention {
  images: readonly ShownImage[];
  depth: number;
  heads: number;
  /** Rows and columns of patches. */
  grid: readonly [number, number];
  /** `[images, depth, heads, 1 + patches]`, row by row. */
  shares: Float32Array;
}

/** Share of a tile's colour that is attention's; the rest is the image in grey. */
const opacity = 0.62;
/** Heads and blocks that are drawn: of more, the first ones. */
const mostHeads = 16;
const mostBlocks = 24;

const scale: ColourScale = magnitudes(0, 1, "attention over the map's largest");

/** Attention of the class token in the last block, head by head over each image, and in all blocks for the first image. */
export async function attentionFigure(attention: ClassAttention): Promise<Figure> {
  const { images, depth, heads, grid } = attention;
  const groups: string[] = [];
  for (const [i, image] of images.entries()) {
    const tiles: Tile[] = [{ src: await shownUri(image.picture), alt: nameOfImage(image), caption: "the image" }];
    for (let head = 0; head < Math.min(heads, mostHeads); head++) tiles.push(await headTile(attention, i, head));
    groups.push(`<h3 style="font-size:.95rem;margin:1rem 0 .4rem;overflow-wrap:anywhere"><bdi>${escapeHtml(nameOfImage(image))}</bdi></h3>\n${tileGrid(tiles)}`);
  }
  const blocks = `<h3 style="font-size:.95rem;margin:1.4rem 0 .4rem">All blocks, for the first image</h3>
<div style="max-width:${Math.min(44, 4 + 5 * Math.min(heads, mostHeads))}rem">${await blocksPlot(attention)}</div>`;
  const left = heads > mostHeads ? ` The first ${mostHeads} of ${heads} heads are shown.` : "";
  return {
    id: "attention",
    title: "Attention of the class token",
    caption: `Where the class token looks in the last of ${depth} blocks, one map for each head: bright patches have most of its attention. Each map has its ` +
      `own scale; below it are its largest share of one patch (max; evenly spread it would be ${shareText(1 / (1 + grid[0] * grid[1]))}) and what the ` +
      `class token keeps for itself (own).${left}`,
    body: `${groups.join("\n")}\n${blocks}`,
  };
}

/** Percent that are not broken over lines. */
function shareText(share: number): string {
  return share < 0.0005 ? "<\u202f0.1\u00a0%" : `${Number((100 * share).toFixed(share < 0.1 ? 1 : 0))}\u00a0%`;
}

/** One row of the shares: the class token's own, and those of the patches. */
function sharesOf({ shares, depth, heads, grid }: ClassAttention, image: number, block: number, head: number): { own: number; patches: Float32Array } {
  const tokens = 1 + grid[0] * grid[1];
  const start = ((image * depth + block) * heads + head) * tokens;
  return { own: shares[start]!, patches: shares.subarray(start + 1, start + tokens) };
}

async function headTile(attention: ClassAttention, image: number, head: number): Promise<Tile> {
  const { own, patches } = sharesOf(attention, image, attention.depth - 1, head);
  const most = Math.max(...patches);
  const map = rasterOf(patches.map((share) => share / most), attention.grid[1], attention.grid[0], (value) => colourOf(scale, value));
  const shown = attention.images[image]!;
  const src = await webpUri(overlaid(shown.picture, map), { side: 168, quality: 78 });
  return { src, alt: `head ${head + 1} on ${shown.name}`, caption: `head ${head + 1}\nmax ${shareText(most)}\nown ${shareText(own)}` };
}

/** A map over a grey image: each patch keeps its exact place. */
export function overlaid(image: Raster, map: Raster): Raster {
  const times = Math.max(1, Math.ceil(112 / Math.min(image.width, image.height)));
  const large = enlarged(image, times);
  const { width, height } = large;
  const data = new Uint8Array(large.data);
  for (let y = 0; y < height; y++) {
    const row = Math.floor((y * map.height) / height);
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      const grey = 0.299 * data[at]! + 0.587 * data[at + 1]! + 0.114 * data[at + 2]!;
      const from = 4 * (row * map.width + Math.floor((x * map.width) / width));
      for (let channel = 0; channel < 3; channel++) data[at + channel] = Math.round(opacity * map.data[from + channel]! + (1 - opacity) * grey);
    }
  }
  return { width, height, data };
}

/** A row of maps for each block, a column for each head. */
function blocksPlot(attention: ClassAttention): Promise<string> {
  const { grid: [rows, columns] } = attention;
  const [depth, heads] = [Math.min(attention.depth, mostBlocks), Math.min(attention.heads, mostHeads)];
  const maps: Raster[] = [];
  for (let block = 0; block < depth; block++) {
    for (let head = 0; head < heads; head++) {
      const { patches } = sharesOf(attention, 0, block, head);
      const most = Math.max(...patches);
      maps.push(rasterOf(patches.map((share) => share / most), columns, rows, (value) => colourOf(scale, value)));
    }
  }
  const ticks = (count: number): { at: number; text: string }[] => Array.from({ length: count }, (_, i) => ({ at: (i + 0.5) / count, text: String(i + 1) }));
  return plotHtml({
    raster: mapSheet(maps, heads, 640),
    alt: `attention of the class token in ${depth} blocks and ${heads} heads`,
    x: { title: "head", ticks: ticks(heads) },
    y: { title: "block", ticks: ticks(depth) },
    scale,
  });
}
