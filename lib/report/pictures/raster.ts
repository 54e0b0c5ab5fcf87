import sharp from "sharp";
import type { Colour } from "./colourScale.js";

/** Pixels, four bytes each: red, green, blue, opacity. */
export interface Raster {
  width: number;
  height: number;
  data: Uint8Array;
}

/** A picture with one pixel for each number, row by row. */
export function rasterOf(values: ArrayLike<number>, width: number, height: number, colour: (value: number) => Colour): Raster {
  const data = new Uint8Array(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    data.set(colour(values[i]!), 4 * i);
    data[4 * i + 3] = 255;
  }
  return { width, height, data };
}

/** A picture from its three channels, each `width · height` numbers of 0 to 255, one channel after the other. */
export function rasterOfPlanes(planes: ArrayLike<number>, width: number, height: number): Raster {
  const area = width * height;
  const data = new Uint8Array(4 * area).fill(255);
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) data[4 * i + channel] = Math.min(255, Math.max(0, Math.round(planes[channel * area + i]!)));
  }
  return { width, height, data };
}

/** Each pixel as a block of equal pixels. */
export function enlarged({ width, height, data }: Raster, across: number, down = across): Raster {
  const pixels = new Uint32Array(data.buffer, data.byteOffset, width * height);
  const result = new Uint32Array(width * across * height * down);
  for (let y = 0; y < height * down; y++) {
    const row = Math.floor(y / down) * width;
    for (let x = 0; x < width * across; x++) result[y * width * across + x] = pixels[row + Math.floor(x / across)]!;
  }
  return { width: width * across, height: height * down, data: new Uint8Array(result.buffer) };
}

/** Pictures of one size side by side, row by row, with transparent gaps between them. */
export function tiled(tiles: readonly Raster[], columns: number, gap: number): Raster {
  const [{ width: w, height: h }] = tiles as [Raster];
  const rows = Math.ceil(tiles.length / columns);
  const width = columns * (w + gap) - gap;
  const height = rows * (h + gap) - gap;
  const data = new Uint8Array(4 * width * height);
  tiles.forEach((tile, i) => {
    const left = (i % columns) * (w + gap);
    const top = Math.floor(i / columns) * (h + gap);
    for (let y = 0; y < h; y++) data.set(tile.data.subarray(4 * y * w, 4 * (y + 1) * w), 4 * ((top + y) * width + left));
  });
  return { width, height, data };
}

/** Small maps of one size side by side, with narrow gaps between them, enlarged to a sheet of at least `width` pixels. */
export function mapSheet(maps: readonly Raster[], columns: number, width: number): Raster {
  const side = Math.max(...maps.map((map) => Math.max(map.width, map.height)));
  const times = Math.max(1, Math.round(12 / side));
  const sheet = tiled(maps.map((map) => enlarged(map, times)), columns, Math.max(1, Math.round((side * times) / 10)));
  return enlarged(sheet, Math.max(1, Math.ceil(width / sheet.width)));
}

/** Without loss. */
function rasterPng({ width, height, data }: Raster): Promise<Buffer> {
  return sharp(data, { raw: { width, height, channels: 4 } }).png({ compressionLevel: 9, adaptiveFiltering: true }).toBuffer();
}

export async function pngUri(raster: Raster): Promise<string> {
  return `data:image/png;base64,${(await rasterPng(raster)).toString("base64")}`;
}

/** Smaller, with a little loss: for photographs. */
export async function webpUri({ width, height, data }: Raster, options: { side?: number; quality?: number } = {}): Promise<string> {
  const { side, quality = 80 } = options;
  const picture = sharp(data, { raw: { width, height, channels: 4 } }).removeAlpha();
  if (side !== undefined) picture.resize({ width: side, height: side, fit: "inside", withoutEnlargement: true });
  return `data:image/webp;base64,${(await picture.webp({ quality }).toBuffer()).toString("base64")}`;
}
