import { extname } from "node:path";
import sharp from "sharp";
import { hasFonts } from "../contactSheet.js";
import { escapeHtml } from "../htmlPage.js";
import { writeReportFile } from "../reportFile.js";
import { figurePage } from "./figurePage.js";
import { plotSvg } from "./plot.js";
import { positionFigures } from "./positionFigures.js";
import { positionCaption, positionPlot, similarityCaption, similarityPlot } from "./positionPlot.js";
import type { PositionTable } from "./positionTable.js";

const margin = 24;
const plotLeft = 84;
const plotWidth = 768;
const lineHeight = 17;

/**
 * Draws a position embedding and the similarities of its positions into a file, by its ending. It appears complete or not at all.
 *
 * @returns its size, and what the reader of the picture should know
 * @throws ReportFileError when it cannot be written
 */
export async function writePositionPicture(table: PositionTable, out: string): Promise<{ bytes: number; warnings: string[] }> {
  const ending = extname(out).toLowerCase();
  const warnings: string[] = [];
  let content: Buffer;
  if (ending === ".html") {
    const figures = await positionFigures(table);
    content = Buffer.from(figurePage({ title: title(table), lead: lead(table), figures }));
  } else {
    const drawing = await positionSvg(table);
    content = ending === ".svg" ? Buffer.from(drawing) : await sharp(Buffer.from(drawing), { density: 144 }).png({ compressionLevel: 9 }).toBuffer();
    if (ending === ".png" && !(await hasFonts())) {
      warnings.push("this system has no fonts, so the text is boxes: install one (apt-get install fonts-dejavu-core), or write .svg or .html");
    }
  }
  await writeReportFile(out, content);
  return { bytes: content.length, warnings };
}

/** Both plots below each other, on white. */
async function positionSvg(table: PositionTable): Promise<string> {
  const { grid: [rows, columns] } = table;
  const content: string[] = [];
  let y = margin + 20;
  const put = (words: string, attributes: string): void => {
    content.push(`<text x="${margin}" y="${y}" ${attributes}>${escapeHtml(words)}</text>`);
    y += lineHeight;
  };
  const paragraph = (words: string): void => wrapped(words, 116).forEach((line) => put(line, 'font-size="13"'));
  put(title(table), 'font-size="20" font-weight="bold"');
  y += 6;
  paragraph(positionCaption(table));
  y += 26;
  const embedding = positionPlot(table);
  const height = Math.max(200, Math.min(600, Math.round((plotWidth * embedding.raster.height) / embedding.raster.width)));
  content.push(await plotSvg(embedding, { left: plotLeft, top: y, width: plotWidth, height }));
  y += height + 140;
  put("Similarity of positions", 'font-size="16" font-weight="bold"');
  y += 4;
  paragraph(similarityCaption(table));
  y += 6;
  const side = 640 / Math.max(rows, columns);
  const [mapWidth, mapHeight] = [Math.round(columns * side), Math.round(rows * side)];
  content.push(await plotSvg({ ...similarityPlot(table), pixelated: true }, { left: plotLeft, top: y, width: mapWidth, height: mapHeight }));
  y += mapHeight + 110;
  const size = `width="${plotLeft + plotWidth + margin}" height="${y}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${plotLeft + plotWidth + margin} ${y}" font-family="sans-serif" fill="#222">
<rect width="100%" height="100%" fill="#fff"/>
${content.join("\n")}
</svg>
`;
}

function title({ grid: [rows, columns], width }: PositionTable): string {
  return `Position embedding of ${rows} × ${columns} patches, width ${width}`;
}

function lead({ temperature }: PositionTable): string {
  return `The fixed 2-D sine-cosine embedding of MoCo v3's Vision Transformers, temperature ${temperature!.toLocaleString("en")}.`;
}

/** Lines of at most so many characters, broken at spaces. */
function wrapped(words: string, characters: number): string[] {
  const lines = [""];
  for (const word of words.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length <= characters) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
