import sharp, { type OverlayOptions } from "sharp";
import type { LoggedPicture } from "./logger.js";

/** Sides of a cell, in pixels: smaller pictures are drawn as they are, larger ones made smaller. */
const LARGEST_CELL = 128;
const GAP = 4;

/** Pixels of one picture: red, green and blue of each, line by line. */
export interface RgbPixels {
  data: Uint8Array;
  width: number;
  height: number;
}

/**
 * Pictures side by side on one sheet: a line for each view, a column for each image.
 *
 * @param views pictures of the same size, `[view][image]`
 */
export async function viewGrid(views: readonly (readonly RgbPixels[])[]): Promise<LoggedPicture> {
  const [{ width, height }] = views[0] as [RgbPixels];
  const scale = Math.min(1, LARGEST_CELL / Math.max(width, height));
  const [cellWidth, cellHeight] = [width, height].map((side) => Math.max(1, Math.round(scale * side))) as [number, number];
  const cells = views.flatMap((images, row) => images.map(async ({ data, width, height }, column): Promise<OverlayOptions> => {
    const input = await sharp(data, { raw: { width, height, channels: 3 } }).resize(cellWidth, cellHeight).png({ compressionLevel: 0 }).toBuffer();
    return { input, left: GAP + column * (cellWidth + GAP), top: GAP + row * (cellHeight + GAP) };
  }));
  const size = { width: GAP + views[0]!.length * (cellWidth + GAP), height: GAP + views.length * (cellHeight + GAP) };
  const sheet = sharp({ create: { ...size, channels: 3, background: "#fff" } });
  const png = await sheet.composite(await Promise.all(cells)).removeAlpha().png({ compressionLevel: 9 }).toBuffer();
  return { png, ...size };
}
