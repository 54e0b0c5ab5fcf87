/** PBM, PGM and PPM files, plain (P1 to P3) and raw (P4 to P6). */
import { maxPixels, type DecodedImage } from "./decodedImage.js";
import { roundHalfEven } from "./rounding.js";

function isSpace(byte: number): boolean {
  return byte === 32 || (byte >= 9 && byte <= 13);
}

/** Numbers in decimal text between white space and comments. */
class Tokens {
  at = 2;
  constructor(private readonly bytes: Uint8Array) {}

  #skip(): void {
    for (; this.at < this.bytes.length; this.at++) {
      const byte = this.bytes[this.at]!;
      if (byte === 35) {
        while (this.at < this.bytes.length && this.bytes[this.at] !== 10) this.at++;
      } else if (!isSpace(byte)) {
        return;
      }
    }
    throw new Error("truncated PPM/PGM/PBM file");
  }

  number(): number {
    this.#skip();
    let value = 0;
    const start = this.at;
    for (; this.at < this.bytes.length; this.at++) {
      const digit = this.bytes[this.at]! - 48;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (value > 0x7fffffff) throw new Error("a number in the PPM/PGM/PBM file is too large");
    }
    if (this.at === start) throw new Error("something that is not a number in the PPM/PGM/PBM file");
    return value;
  }

  /** Plain bitmaps may have no space between their digits. */
  bit(): number {
    this.#skip();
    const digit = this.bytes[this.at++]! - 48;
    if (digit !== 0 && digit !== 1) throw new Error("a plain PBM file has only 0 and 1");
    return digit;
  }
}

/** Decodes a PPM, PGM or PBM file; throws an `Error` that says what is wrong with it. */
export function decodeNetpbm(bytes: Uint8Array): DecodedImage {
  const kind = bytes[1]! - 48;
  const tokens = new Tokens(bytes);
  const width = tokens.number();
  const height = tokens.number();
  const bitmap = kind === 1 || kind === 4;
  const top = bitmap ? 1 : tokens.number();
  if (width < 1 || height < 1 || width * height > maxPixels) throw new Error(`PPM/PGM/PBM of ${width} x ${height} pixels`);
  if (top < 1 || top > 65535) throw new Error(`PPM/PGM file whose brightest value is ${top}; 1 to 65535 are possible`);

  const channels = kind === 3 || kind === 6 ? 3 : 1;
  const count = width * height * channels;
  let sample: (i: number) => number;
  if (kind <= 3) {
    if (bytes.length < count) throw new Error("truncated PPM/PGM/PBM file");
    sample = bitmap ? () => 1 - tokens.bit() : () => tokens.number();
  } else {
    const start = tokens.at + 1; // one white-space byte ends the header
    const wide = top > 255 ? 2 : 1;
    const stride = Math.ceil(width / 8);
    if (bytes.length < start + (bitmap ? stride * height : count * wide)) throw new Error("truncated PPM/PGM/PBM file");
    sample =
      bitmap ? (i) => 1 - ((bytes[start + Math.floor(i / width) * stride + ((i % width) >> 3)]! >> (7 - ((i % width) & 7))) & 1)
      : wide === 1 ? (i) => bytes[start + i]!
      : (i) => (bytes[start + 2 * i]! << 8) | bytes[start + 2 * i + 1]!;
  }
  const data = new Uint8Array(3 * width * height);
  for (let i = 0; i < count; i++) {
    const value = sample(i);
    const byte = top === 255 ? value : Math.min(255, roundHalfEven((value / top) * 255));
    if (channels === 3) data[i] = byte;
    else data[3 * i] = data[3 * i + 1] = data[3 * i + 2] = byte;
  }
  return { data, width, height };
}
