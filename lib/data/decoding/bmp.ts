/**
 * Windows bitmaps, which the decoding library does not read: 1, 4, 8, 16, 24 and 32 bits per pixel, palettes, bit fields, run-length
 * encoding, bottom-up and top-down. Alpha is dropped.
 */
import { maxPixels, type DecodedImage } from "./decodedImage.js";

const enum Compression { none = 0, runs8 = 1, runs4 = 2, bitFields = 3, alphaBitFields = 6 }

interface BmpHeader {
  width: number;
  height: number;
  topDown: boolean;
  bits: number;
  compression: number;
  pixelStart: number;
  /** Red, green, blue for each index, or empty. */
  palette: Uint8Array;
  /** Red, green and blue masks of 16 and 32 bit pixels. */
  masks: [number, number, number];
}

/** Decodes a BMP file; throws an `Error` that says what is wrong with it. */
export function decodeBmp(bytes: Uint8Array): DecodedImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = readHeader(view);
  const { width, height } = header;
  // Two bytes make a run of 255 pixels at most: a small file cannot ask for much memory.
  if (width * height > 128 * bytes.length) throw new Error(`truncated BMP: ${bytes.length} bytes for ${width} x ${height} pixels`);
  const data = new Uint8Array(3 * width * height);
  if (header.compression === Compression.runs8 || header.compression === Compression.runs4) {
    paint(header, runLengthIndices(header, bytes), data);
  } else if (header.bits <= 8) {
    paint(header, packedIndices(header, bytes), data);
  } else {
    directColour(header, view, data);
  }
  return { data, width, height };
}

function readHeader(view: DataView): BmpHeader {
  if (view.byteLength < 26) throw new Error("truncated BMP header");
  const pixelStart = view.getUint32(10, true);
  const size = view.getUint32(14, true);
  const old = size === 12;
  if ((!old && size < 40) || view.byteLength < 14 + size) throw new Error(`BMP header of ${size} bytes`);
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true);
  const signedHeight = old ? view.getUint16(20, true) : view.getInt32(22, true);
  const bits = view.getUint16(old ? 24 : 28, true);
  const compression = old ? Compression.none : view.getUint32(30, true);
  const height = Math.abs(signedHeight);
  if (width < 1 || height < 1 || width * height > maxPixels) throw new Error(`BMP of ${width} x ${height} pixels`);
  const known =
    compression === Compression.none ? [1, 4, 8, 16, 24, 32].includes(bits)
    : compression === Compression.runs8 ? bits === 8
    : compression === Compression.runs4 ? bits === 4
    : (compression === Compression.bitFields || compression === Compression.alphaBitFields) && (bits === 16 || bits === 32);
  if (!known) throw new Error(`BMP with ${bits} bits per pixel and compression ${compression}`);

  const masks: [number, number, number] = bits === 16 ? [0x7c00, 0x3e0, 0x1f] : [0xff0000, 0xff00, 0xff];
  let paletteStart = 14 + size;
  if (compression === Compression.bitFields || compression === Compression.alphaBitFields) {
    // Right after the first forty bytes, whether they belong to a longer header or follow a short one.
    if (view.byteLength < 66) throw new Error("truncated BMP header");
    for (let i = 0; i < 3; i++) masks[i] = view.getUint32(54 + 4 * i, true);
    if (size === 40) paletteStart += compression === Compression.bitFields ? 12 : 16;
  }
  let palette = new Uint8Array(0);
  if (bits <= 8) {
    const entry = old ? 3 : 4;
    const declared = old ? 0 : view.getUint32(46, true);
    const room = Math.floor((Math.min(pixelStart || view.byteLength, view.byteLength) - paletteStart) / entry);
    const count = Math.min(declared || 1 << bits, 1 << bits, room);
    if (count < 1) throw new Error("BMP without its palette");
    palette = new Uint8Array(3 << bits);
    for (let i = 0; i < count; i++) {
      for (let channel = 0; channel < 3; channel++) palette[3 * i + channel] = view.getUint8(paletteStart + entry * i + 2 - channel);
    }
  }
  return { width, height, topDown: signedHeight < 0, bits, compression, pixelStart, palette, masks };
}

/** Where row `y` of the picture lies among the rows of the file. */
function fileRow(header: BmpHeader, y: number): number {
  return header.topDown ? y : header.height - 1 - y;
}

function rowStride(header: BmpHeader): number {
  return Math.floor((header.width * header.bits + 31) / 32) * 4;
}

function requirePixels(header: BmpHeader, length: number): void {
  const end = header.pixelStart + rowStride(header) * header.height;
  if (end > length) throw new Error(`truncated BMP: ${length} bytes, its pixels end at ${end}`);
}

function packedIndices(header: BmpHeader, bytes: Uint8Array): Uint8Array {
  requirePixels(header, bytes.length);
  const { width, height, bits } = header;
  const indices = new Uint8Array(width * height);
  const mask = (1 << bits) - 1;
  for (let y = 0; y < height; y++) {
    const row = header.pixelStart + fileRow(header, y) * rowStride(header);
    for (let x = 0; x < width; x++) {
      const bit = x * bits;
      indices[y * width + x] = (bytes[row + (bit >> 3)]! >> (8 - bits - (bit & 7))) & mask;
    }
  }
  return indices;
}

/** Pairs of (count, value), with escapes for literal runs, jumps, ends of lines and the end of the picture. */
function runLengthIndices(header: BmpHeader, bytes: Uint8Array): Uint8Array {
  const { width, height, bits } = header;
  const indices = new Uint8Array(width * height);
  let at = header.pixelStart;
  let x = 0;
  let line = 0;
  const put = (value: number): void => {
    if (x < width && line < height) indices[fileRow(header, line) * width + x] = value;
    x++;
  };
  const next = (): number => {
    if (at >= bytes.length) throw new Error("truncated BMP: its runs do not end");
    return bytes[at++]!;
  };
  while (line < height) {
    const count = next();
    const value = next();
    if (count > 0) {
      for (let i = 0; i < count; i++) put(bits === 8 ? value : i & 1 ? value & 15 : value >> 4);
    } else if (value === 0) {
      x = 0;
      line++;
    } else if (value === 1) {
      break;
    } else if (value === 2) {
      x += next();
      line += next();
    } else {
      const start = at;
      let pair = 0;
      for (let i = 0; i < value; i++) {
        if (bits === 8) put(next());
        else put(i & 1 ? pair & 15 : (pair = next()) >> 4);
      }
      if ((at - start) & 1) next(); // literals are padded to two bytes
    }
  }
  return indices;
}

function paint(header: BmpHeader, indices: Uint8Array, data: Uint8Array): void {
  const { palette } = header;
  for (let i = 0; i < indices.length; i++) {
    const entry = 3 * indices[i]!;
    data[3 * i] = palette[entry]!;
    data[3 * i + 1] = palette[entry + 1]!;
    data[3 * i + 2] = palette[entry + 2]!;
  }
}

function directColour(header: BmpHeader, view: DataView, data: Uint8Array): void {
  requirePixels(header, view.byteLength);
  const { width, height, bits, masks } = header;
  const shifts = masks.map((mask) => (mask === 0 ? 0 : 31 - Math.clz32(mask & -mask)));
  const tops = masks.map((mask, i) => mask >>> shifts[i]!);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const row = header.pixelStart + fileRow(header, y) * rowStride(header);
    for (let x = 0; x < width; x++) {
      if (bits === 24) {
        const from = row + 3 * x;
        data[to++] = view.getUint8(from + 2);
        data[to++] = view.getUint8(from + 1);
        data[to++] = view.getUint8(from);
        continue;
      }
      const pixel = bits === 16 ? view.getUint16(row + 2 * x, true) : view.getUint32(row + 4 * x, true);
      for (let channel = 0; channel < 3; channel++) {
        const top = tops[channel]!;
        data[to++] = top === 0 ? 0 : Math.floor((((pixel & masks[channel]!) >>> shifts[channel]!) * 255) / top);
      }
    }
  }
}
