/** Pixels of one image: 8-bit RGB, interleaved, rows from the top, `3 * width * height` bytes. */
export interface DecodedImage {
  data: Uint8Array;
  width: number;
  height: number;
}

/** The most pixels an image may claim; PIL stops at the same number, as protection from decompression bombs. */
export const maxPixels = 178_956_970;
