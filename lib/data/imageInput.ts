import type { DecodedImage } from "./decoding/decodedImage.js";

/** A part of a file, such as a member of a tar archive. */
export interface FileRange {
  path: string;
  /** In bytes. */
  offset: number;
  length: number;
}

/**
 * Where an image comes from: the path of a file, a part of one, a file's bytes in any supported format, or pixels. Paths and parts are
 * read by native threads, which a busy JavaScript thread does not hold up.
 */
export type ImageInput = string | FileRange | Uint8Array | DecodedImage;

export function isFileRange(input: ImageInput): input is FileRange {
  // A Buffer has an offset too.
  return typeof input === "object" && !ArrayBuffer.isView(input) && "offset" in input;
}

export function isDecoded(input: ImageInput): input is DecodedImage {
  return typeof input === "object" && !ArrayBuffer.isView(input) && "data" in input;
}
