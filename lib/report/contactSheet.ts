import sharp, { type OverlayOptions } from "sharp";
import type { DecodedImage } from "../data/decoding/decodedImage.js";
import type { AugmentSheet, SheetRow } from "./augmentSheet.js";
import { recipeLines, sheetSummary, viewWords, type RecipeLine } from "./augmentWords.js";
import { escapeHtml } from "./htmlPage.js";

/** Sizes in pixels. */
const margin = 24;
const gap = 16;
const lineHeight = 17;
/** Room for the words beside a view: "crop 1234 × 1234 at 1234, 1234: 9.9 %". */
const wordsWidth = 236;
const colours = ["#c2410c", "#1d4ed8"] as const;
/** Views are drawn as they are within these sides, smaller or larger ones scaled to them. */
const smallestCell = 96;
const largestCell = 224;

interface Layout {
  /** Side of a view's cell. */
  cell: number;
  originalWidth: number;
  width: number;
}

/** A sheet as one PNG picture: a line for each image, with the original, both views and what was drawn. */
export async function contactSheetPng(sheet: AugmentSheet): Promise<Buffer> {
  const cell = Math.min(largestCell, Math.max(smallestCell, sheet.imageSize));
  const originalWidth = Math.round(cell * 1.4);
  const layout = { cell, originalWidth, width: 2 * margin + originalWidth + 2 * (2 * gap + cell + wordsWidth) };
  const heading = headingSvg(sheet, layout);
  const overlays: OverlayOptions[] = [{ input: Buffer.from(heading.svg), left: 0, top: 0 }];
  let top = heading.height;
  for (const row of sheet.rows) {
    const drawn = await drawRow(row, layout, top);
    overlays.push(...drawn.overlays);
    top += drawn.height;
  }
  const { width } = layout;
  return sharp({ create: { width, height: top + margin, channels: 3, background: "#fff" }, limitInputPixels: false })
    .composite(overlays).removeAlpha().png({ compressionLevel: 9, adaptiveFiltering: true }).toBuffer();
}

/**
 * Whether text can be drawn here. Without any font, as in many containers, each character becomes a box of the same width.
 */
export async function hasFonts(): Promise<boolean> {
  const widthOf = async (text: string): Promise<number> =>
    (await sharp({ text: { text, font: "sans-serif" } }).raw().toBuffer({ resolveWithObject: true })).info.width;
  return await widthOf("iiiiiiii") !== await widthOf("MMMMMMMM");
}

function svg(width: number, height: number, content: readonly string[]): string {
  const size = `width="${width}" height="${height}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12" fill="#222">${content.join("")}</svg>`;
}

function text(x: number, y: number, words: string, attributes = ""): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escapeHtml(words)}</text>`;
}

function headingSvg(sheet: AugmentSheet, { width }: Layout): { svg: string; height: number } {
  const columns = [0, 110, 690, 750, 840, 900].map((x) => margin + Math.round(x * Math.min(1, (width - 2 * margin) / 1020)));
  const content = [text(margin, 40, "Two views of every image", 'font-size="20" font-weight="bold"')];
  let y = 64;
  const put = (words: string, attributes = ""): void => {
    content.push(text(margin, y, words, attributes));
    y += lineHeight;
  };
  for (const line of wrap(sheetSummary(sheet), (width - 2 * margin) / 6.6)) put(line);
  y += 8;
  const titles = ["operation", "", "view 1", "drawn", "view 2", "drawn"];
  titles.forEach((title, i) => content.push(text(columns[i]!, y, title, 'font-weight="bold"')));
  y += lineHeight;
  const cells = ({ operation, strength, views }: RecipeLine): string[] =>
    [operation, strength, ...views.flatMap(({ probability, drawn }) => [probability, drawn])];
  for (const line of recipeLines(sheet)) {
    const lines = wrap(cells(line)[1]!, (columns[2]! - columns[1]!) / 6.4);
    cells(line).forEach((words, i) => (i === 1 ? lines : [words]).forEach((part, row) =>
      content.push(text(columns[i]!, y + row * lineHeight, part))));
    y += lineHeight * Math.max(1, lines.length);
  }
  if (sheet.bad.length > 0) y += 8;
  for (const { name, reason } of sheet.bad) put(cut(`cannot be read: ${name}: ${reason}`, (width - 2 * margin) / 6.6));
  return { svg: svg(width, y, content), height: y };
}

async function drawRow(row: SheetRow, layout: Layout, top: number): Promise<{ overlays: OverlayOptions[]; height: number }> {
  const { cell, originalWidth, width } = layout;
  const shown = await scaled(row.original, originalWidth, cell);
  const words = row.views.map((view) => viewWords(view, row));
  const content: string[] = [`<path d="M${margin} .5H${width - margin}" stroke="#ccc"/>`];
  const overlays: OverlayOptions[] = [place(shown, margin, top + gap)];
  for (const stroke of [["#fff", 4], ["", 2]] as const) {
    row.views.forEach(({ crop }, view) => {
      const [x, y] = [shown.width / row.width, shown.height / row.height];
      const dashes = view === 1 && stroke[0] === "" ? ' stroke-dasharray="7 4"' : "";
      content.push(
        `<rect x="${margin + crop.left * x}" y="${gap + crop.top * y}" width="${crop.width * x}" height="${crop.height * y}" fill="none" ` +
          `stroke="${stroke[0] || colours[view]}" stroke-width="${stroke[1]}"${dashes}/>`,
      );
    });
  }
  const nameTop = gap + shown.height + lineHeight;
  const facts = [`${row.width} × ${row.height}`, `image ${row.index}`, ...(row.label === null ? [] : [row.label])].join(", ");
  [row.name, facts].forEach((words, i) => content.push(text(margin, nameTop + i * lineHeight, cut(words, originalWidth / 6.8))));
  for (const [view, { pixels }] of row.views.entries()) {
    const left = margin + originalWidth + gap + view * (2 * gap + cell + wordsWidth);
    const picture = await scaled(pixels, cell, cell, pixels.width < cell);
    overlays.push(place(picture, left, top + gap));
    const lines = [`view ${view + 1}`, ...words[view]!.map((each, i) => `${i + 1}  ${each}`)];
    lines.forEach((line, i) => {
      const attributes = i === 0 ? `fill="${colours[view]}" font-weight="bold"` : "";
      content.push(text(left + cell + gap, gap + 12 + i * lineHeight, line, attributes));
    });
  }
  const longest = Math.max(...words.map((each) => each.length + 1)) * lineHeight;
  const height = 2 * gap + Math.max(cell, longest, shown.height + 2 * lineHeight);
  overlays.push({ input: Buffer.from(svg(width, height, content)), left: 0, top });
  return { overlays, height };
}

function place({ data, width, height }: DecodedImage, left: number, top: number): OverlayOptions {
  return { input: Buffer.from(data.buffer, data.byteOffset, data.byteLength), raw: { width, height, channels: 3 }, left, top };
}

/** The picture within a box; never enlarged, unless its pixels are to be seen as squares. */
async function scaled({ data, width, height }: DecodedImage, boxWidth: number, boxHeight: number, enlarge = false): Promise<DecodedImage> {
  const { data: pixels, info } = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize({ width: boxWidth, height: boxHeight, fit: "inside", withoutEnlargement: !enlarge, kernel: enlarge ? "nearest" : "lanczos3" })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data: pixels, width: info.width, height: info.height };
}

function cut(words: string, characters: number): string {
  const all = [...words];
  return all.length <= characters ? words : `${all.slice(0, Math.floor(characters) - 1).join("")}…`;
}

/** Lines of at most so many characters, broken at spaces. */
function wrap(words: string, characters: number): string[] {
  const lines: string[] = [];
  for (const word of words.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= characters) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
