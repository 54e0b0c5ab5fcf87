import type { DecodedImage } from "../../data/index.js";
import { enlarged, webpUri, type Raster } from "./raster.js";

/** An image as the network gets it: resized, the centre cut out. */
export interface ShownImage {
  name: string;
  /** Name of its class; null where there is none. */
  label: string | null;
  picture: Raster;
}

/** RGB pixels as a raster. */
export function rasterOfPixels({ data, width, height }: DecodedImage): Raster {
  const result = new Uint8Array(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) result.set(data.subarray(3 * i, 3 * i + 3), 4 * i);
  return { width, height, data: result };
}

/** Text for tooltips and for those who cannot see an image. */
export function nameOfImage({ name, label }: Pick<ShownImage, "name" | "label">): string {
  return label === null ? name : `${name} (${label})`;
}

/** Least side of a picture beside others, in pixels: smaller ones are drawn with squares for pixels. */
const leastSide = 112;

/** A picture that is not blurred where it is small: each pixel becomes a square. */
function atLeastReadable(picture: Raster): Raster {
  const times = Math.ceil(leastSide / Math.min(picture.width, picture.height));
  return times > 1 ? enlarged(picture, times) : picture;
}

/** A picture of at most 168 pixels a side as a data URI. */
export function shownUri(picture: Raster): Promise<string> {
  return webpUri(atLeastReadable(picture), { side: 168, quality: 78 });
}
