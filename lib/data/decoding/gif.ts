/** The first picture of a GIF, with PIL's meaning: transparent pixels show their colour in the palette. */
import { maxPixels, type DecodedImage } from "./decodedImage.js";

const truncated = "truncated GIF file";

/** Where the rows of an interlaced picture begin, and how far apart they are. */
const interlacing = [[0, 8], [4, 8], [2, 4], [1, 2]] as const;

/** A picture as the file describes it. */
interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
  interlaced: boolean;
  /** Red, green and blue of each index; null for gray. */
  palette: Uint8Array | null;
  /** Bits of the smallest code. */
  codeBits: number;
  /** Where its data begins: blocks, each after its length. */
  data: number;
}

/** Decodes a GIF file; throws an `Error` that says what is wrong with it. */
export function decodeGif(bytes: Uint8Array): DecodedImage {
  const byte = (at: number): number => {
    if (at >= bytes.length) throw new Error(truncated);
    return bytes[at]!;
  };
  const word = (at: number): number => byte(at) | (byte(at + 1) << 8);
  const paletteAt = (at: number, flags: number): Uint8Array | null => {
    if ((flags & 0x80) === 0) return null;
    const end = at + 3 * 2 ** ((flags & 7) + 1);
    if (end > bytes.length) throw new Error(truncated);
    return bytes.subarray(at, end);
  };

  let width = word(6), height = word(8);
  const common = paletteAt(13, byte(10));
  let transparent: number | null = null;
  let frame: Frame | null = null;
  for (let at = 13 + (common?.length ?? 0); frame === null;) {
    const kind = byte(at++);
    if (kind === 0x21) { // an extension
      const graphics = byte(at++) === 0xf9 && byte(at) === 4;
      if (graphics) transparent = (byte(at + 1) & 1) === 1 ? byte(at + 4) : null;
      while (byte(at) !== 0) at += 1 + byte(at);
      at++;
    } else if (kind === 0x2c) {
      const flags = byte(at + 8);
      const own = paletteAt(at + 9, flags);
      const data = at + 9 + (own?.length ?? 0);
      frame = {
        left: word(at), top: word(at + 2), width: word(at + 4), height: word(at + 6), interlaced: (flags & 0x40) !== 0,
        palette: own ?? common, codeBits: byte(data), data: data + 1,
      };
    } else if (kind === 0x3b) {
      throw new Error("GIF file without a picture");
    }
  }
  // A picture may reach beyond the screen that the file announces.
  width = Math.max(width, frame.left + frame.width);
  height = Math.max(height, frame.top + frame.height);
  if (width * height > maxPixels) throw new Error(`${width} x ${height} pixels, more than the limit of ${maxPixels}`);
  if (frame.width < 1 || frame.height < 1) throw new Error(`GIF file with a picture of ${frame.width} x ${frame.height} pixels`);
  if (frame.codeBits > 12) throw new Error(`GIF file with codes of ${frame.codeBits} bits; 12 are the most`);

  const indices = unpack(bytes, frame);
  const colours = new Uint8Array(3 * 256);
  if (frame.palette) colours.set(frame.palette);
  else for (let i = 0; i < colours.length; i++) colours[i] = Math.floor(i / 3);
  const data = new Uint8Array(3 * width * height);
  const paint = (at: number, index: number): void => {
    data[at] = colours[3 * index]!;
    data[at + 1] = colours[3 * index + 1]!;
    data[at + 2] = colours[3 * index + 2]!;
  };
  if (frame.width < width || frame.height < height) for (let at = 0; at < data.length; at += 3) paint(at, transparent ?? 0);
  let row = 0;
  const passes = frame.interlaced ? interlacing : ([[0, 1]] as const);
  for (const [first, step] of passes) {
    for (let y = first; y < frame.height; y += step, row++) {
      let at = 3 * ((frame.top + y) * width + frame.left);
      for (let x = 0; x < frame.width; x++, at += 3) paint(at, indices[row * frame.width + x]!);
    }
  }
  return { data, width, height };
}

/** Undoes the compression (LZW with codes that grow to 12 bits); the rows are in the order of the file. */
function unpack(bytes: Uint8Array, { width, height, codeBits, data }: Frame): Uint8Array {
  const count = width * height;
  const out = new Uint8Array(count);
  const clear = 2 ** codeBits, end = clear + 1;
  // A code is a string: the string of another code and one more index.
  const before = new Uint16Array(4096), last = new Uint8Array(4096), lengths = new Uint32Array(4096);
  for (let i = 0; i < clear; i++) {
    last[i] = i;
    lengths[i] = 1;
  }
  let next = end + 1, bits = codeBits + 1, previous = -1;
  let buffer = 0, held = 0;
  let at = data, left = 0;
  let filled = 0;
  while (filled < count) {
    while (held < bits) {
      if (left === 0) {
        left = at < bytes.length ? bytes[at++]! : 0;
        if (left === 0) throw new Error(truncated);
      }
      if (at >= bytes.length) throw new Error(truncated);
      buffer |= bytes[at++]! << held;
      held += 8;
      left--;
    }
    const code = buffer & (2 ** bits - 1);
    buffer >>>= bits;
    held -= bits;
    if (code === clear) {
      next = end + 1;
      bits = codeBits + 1;
      previous = -1;
      continue;
    }
    if (code === end) throw new Error(truncated);
    if (code > next || (code === next && previous < 0) || (previous < 0 && code > end)) throw new Error("corrupt GIF file");
    if (previous >= 0 && next < 4096) {
      // The new string is the one before and the first index of this one, which may be itself.
      let first = code === next ? previous : code;
      while (lengths[first]! > 1) first = before[first]!;
      before[next] = previous;
      last[next] = last[first]!;
      lengths[next] = lengths[previous]! + 1;
      next++;
      if (next === 2 ** bits && bits < 12) bits++;
    } else if (code >= next) {
      throw new Error("corrupt GIF file");
    }
    let place = filled + lengths[code]!;
    filled = Math.min(place, count);
    for (let string = code; ; string = before[string]!) {
      if (--place < count) out[place] = last[string]!;
      if (lengths[string] === 1) break;
    }
    previous = code;
  }
  return out;
}
