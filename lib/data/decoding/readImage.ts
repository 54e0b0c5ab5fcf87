import type { DecodeOptions } from "./decode.js";
import type { DecodedImage } from "./decodedImage.js";
import { BadImageError } from "../errors.js";
import { isDecoded, type ImageInput } from "../imageInput.js";
import { sharedImagePool } from "../imagePool.js";
import { nameOf, type ImageSource } from "../imageSource.js";

/**
 * Decodes an image, with the meaning of PIL's `convert("RGB")`: alpha is dropped, not composited; colour profiles and gamma are ignored;
 * the content decides the format, not the name; animations give their first frame. JPEG is decoded by libjpeg-turbo in the addon, other
 * formats by sharp, both off the JavaScript thread.
 *
 * @param input a path, a part of a file, or the bytes of a JPEG, PNG, WebP, GIF, TIFF, AVIF, BMP or PPM/PGM/PBM file
 * @throws an `Error` that says what is wrong: missing, empty, unknown, truncated, corrupt or too large.
 */
export function decodeImage(input: ImageInput, options: DecodeOptions = {}): Promise<DecodedImage> {
  return sharedImagePool().decode(input, options);
}

/**
 * Reads and decodes one image of a source.
 *
 * @throws {BadImageError} that names the image and says why it cannot be used.
 */
export async function readImage(source: ImageSource, index: number, options: DecodeOptions = {}): Promise<DecodedImage> {
  try {
    return await decodeImage(await givenImage(() => source.image(index)), options);
  } catch (error) {
    throw new BadImageError(`${nameOf(source, index)}: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * What a source gives when it is asked for an image.
 *
 * @throws what the source throws, and an `Error` when its pixels do not fit their size.
 */
export async function givenImage(ask: () => ImageInput | Promise<ImageInput>): Promise<ImageInput> {
  const input = await ask();
  if (!isDecoded(input)) return input;
  const { data, width, height } = input;
  if (ArrayBuffer.isView(data) && width >= 1 && height >= 1 && data.length === 3 * width * height) return input;
  throw new Error(`the source gave ${data?.length} bytes for ${width} x ${height} pixels; RGB needs ${3 * width * height}`);
}
