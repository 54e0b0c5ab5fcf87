/**
 * Image files to pixels by sharp, with the meaning of PIL's `convert("RGB")`: alpha is dropped, not composited; orientation tags, colour
 * profiles and gamma are ignored; the content decides the format, not the name; animations give their first frame.
 *
 * A known difference: 16-bit grayscale keeps its high byte, where PIL turns everything above 255 white.
 */
import sharp from "sharp";
import { decodeBmp } from "./bmp.js";
import { maxPixels, type DecodedImage } from "./decodedImage.js";
import { decodeGif } from "./gif.js";
import { decodeNetpbm } from "./netpbm.js";

/** The kinds of image files that are read. */
export type ImageFormat = "jpeg" | "png" | "webp" | "gif" | "tiff" | "avif" | "bmp" | "netpbm";

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  if (bytes.length < at + text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** The format that the first bytes announce, or null. */
export function sniffFormat(bytes: Uint8Array): ImageFormat | null {
  if (startsWith(bytes, "\xff\xd8\xff")) return "jpeg";
  if (startsWith(bytes, "\x89PNG\r\n\x1a\n")) return "png";
  if (startsWith(bytes, "RIFF") && startsWith(bytes, "WEBP", 8)) return "webp";
  if (startsWith(bytes, "GIF87a") || startsWith(bytes, "GIF89a")) return "gif";
  if (startsWith(bytes, "II*\0") || startsWith(bytes, "MM\0*") || startsWith(bytes, "II+\0") || startsWith(bytes, "MM\0+")) return "tiff";
  if (startsWith(bytes, "ftypavif", 4) || startsWith(bytes, "ftypavis", 4)) return "avif";
  if (startsWith(bytes, "BM")) return "bmp";
  if (bytes[0] === 0x50 && bytes[1]! >= 0x31 && bytes[1]! <= 0x36) return "netpbm"; // P1 to P6
  return null;
}

/** Why bytes that announce no known format are no image for us. */
function unknownFormat(bytes: Uint8Array): string {
  const heic = ["heic", "heix", "heim", "heis", "mif1", "msf1"].some((brand) => startsWith(bytes, `ftyp${brand}`, 4));
  if (heic) return "a HEIC photograph, which cannot be read here: convert it to JPEG, as by `heif-convert` or when exporting it";
  return "not an image in a known format (its first bytes match none)";
}

/** Number of colour components that a JPEG's frame header declares, or 0 when it has none. */
function jpegComponents(bytes: Uint8Array): number {
  let at = 2;
  while (at + 9 < bytes.length) {
    if (bytes[at] !== 0xff) return 0;
    const marker = bytes[at + 1]!;
    if (marker === 0xff) {
      at++; // fill byte
    } else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return bytes[at + 9]!;
    } else {
      at += 2 + (bytes[at + 2]! << 8) + bytes[at + 3]!;
    }
  }
  return 0;
}

/** How a file becomes pixels. */
export interface DecodeOptions {
  /** Turn the picture upright as its EXIF orientation says. Default false, as upstream. */
  exif?: boolean;
}

/**
 * Decodes a JPEG (baseline, progressive, CMYK, grayscale), PNG, WebP, GIF, TIFF, AVIF, BMP or PPM/PGM/PBM file. GIF, BMP and PPM hold the
 * thread that calls.
 *
 * @throws an `Error` that says what is wrong with the file: empty, unknown, truncated, corrupt or too large.
 */
export async function decodeWithSharp(bytes: Uint8Array, options: DecodeOptions = {}): Promise<DecodedImage> {
  if (bytes.length === 0) throw new Error("the file is empty");
  const format = sniffFormat(bytes);
  if (format === null) throw new Error(unknownFormat(bytes));
  if (format === "bmp") return decodeBmp(bytes);
  if (format === "netpbm") return decodeNetpbm(bytes);
  if (format === "gif") return decodeGif(bytes);

  const stored = sharp(bytes, { failOn: "error", ignoreIcc: true, limitInputPixels: maxPixels });
  const image = options.exif ? stored.autoOrient() : stored;
  const inks = format === "jpeg" ? jpegComponents(bytes) === 4 : format === "tiff" && (await stored.metadata()).space === "cmyk";
  const samples = inks ? image.pipelineColourspace("cmyk").toColourspace("cmyk") : image.removeAlpha().toColourspace("srgb");
  const { data, info } = await samples.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true }).catch(async (error: Error) => {
    if (!error.message.includes("pixel limit")) throw error;
    const { width, height } = await sharp(bytes, { limitInputPixels: false }).metadata();
    throw new Error(`${width} x ${height} pixels, more than the limit of ${maxPixels}`, { cause: error });
  });
  const { width, height, channels } = info;
  const pixels = width * height;
  if (channels === 3) return { data, width, height };
  const rgb = new Uint8Array(3 * pixels);
  if (inks && channels === 4) {
    // Loaded when first needed: most threads that decode never meet such a file.
    const { native } = await import("../../native.js");
    native.cmykToRgb(data, rgb);
    return { data: rgb, width, height };
  }
  throw new Error(`${channels} channels after decoding, which is no layout that can become RGB`);
}
