import { cropCentre, resizeShorter } from "./resize.mjs";

/**
 * Decodes a picture to RGB. As in training, EXIF's orientation and colour profiles are passed over.
 *
 * @param {Blob} file
 */
export async function decode(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "none", colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data: rgba } = context.getImageData(0, 0, width, height);
  const data = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { data, width, height };
}

/**
 * What the network sees of a picture, as the model's metadata say: the shorter side resized, the centre cut out.
 *
 * @param {{ data: Uint8Array, width: number, height: number }} picture
 * @param {Record<string, string>} metadata
 */
export function prepare(picture, metadata) {
  const [height, width] = metadata.image_size.split("x").map(Number);
  return cropCentre(resizeShorter(picture, Number(metadata.resize_shorter)), width, height);
}

/**
 * The network's input: (pixel / 255 - mean) / std, channel by channel.
 *
 * @returns {Float32Array} [3, H, W]
 */
export function normalise({ data, width, height }, metadata) {
  const [mean, std] = [metadata.mean, metadata.std].map((text) => text.split(",").map(Number));
  const values = new Float32Array(3 * width * height);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < width * height; i++) {
      values[channel * width * height + i] = (data[3 * i + channel] / 255 - mean[channel]) / std[channel];
    }
  }
  return values;
}
