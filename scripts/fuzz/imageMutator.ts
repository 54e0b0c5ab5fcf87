import { weighted, type Random } from "./random.js";

/** A file that was made from a good one. */
export interface MutatedImage {
  readonly bytes: Buffer;
  /** How it was made. */
  readonly strategy: string;
}

/** A marker with its payload; a scan's entropy-coded data belongs to the start of scan before it. */
interface Segment {
  readonly at: number;
  readonly marker: number;
  /** Marker, length and payload. */
  readonly size: number;
  /** With the data that follows. */
  readonly end: number;
}

const SOI = 0xd8;
const EOI = 0xd9;
const SOS = 0xda;
const DRI = 0xdd;
const DHT = 0xc4;
const DQT = 0xdb;

function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== DHT && marker !== 0xc8 && marker !== 0xcc;
}

/** The segments of a JPEG, as far as they can be followed. */
function segmentsOf(bytes: Buffer): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  while (at + 2 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1] as number;
    if (marker === SOI || marker === EOI) {
      segments.push({ at, marker, size: 2, end: at + 2 });
      at += 2;
      continue;
    }
    if (at + 4 > bytes.length) break;
    const size = 2 + bytes.readUInt16BE(at + 2);
    let end = Math.min(bytes.length, at + size);
    if (marker === SOS) while (end < bytes.length && !isMarkerAfterData(bytes, end)) end++;
    segments.push({ at, marker, size: Math.min(size, end - at), end });
    at = end;
  }
  return segments;
}

function isMarkerAfterData(bytes: Buffer, at: number): boolean {
  const next = bytes[at + 1] ?? 0;
  return bytes[at] === 0xff && next !== 0 && next !== 0xff && !(next >= 0xd0 && next <= 0xd7);
}

/** A place within the payload of a segment of some kind, or anywhere. */
function placeIn(bytes: Buffer, random: Random, wanted: (marker: number) => boolean): number {
  const fitting = segmentsOf(bytes).filter(({ marker, size }) => size > 4 && wanted(marker));
  if (fitting.length === 0) return random.below(Math.max(1, bytes.length));
  const { at, size } = random.pick(fitting);
  return at + 4 + random.below(size - 4);
}

/** A place within the data of a scan, or anywhere. */
function placeInData(bytes: Buffer, random: Random): number {
  const scans = segmentsOf(bytes).filter(({ marker, at, size, end }) => marker === SOS && end > at + size);
  if (scans.length === 0) return random.below(Math.max(1, bytes.length));
  const { at, size, end } = random.pick(scans);
  return at + size + random.below(end - at - size);
}

function without(bytes: Buffer, from: number, to: number): Buffer {
  return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
}

function insert(bytes: Buffer, at: number, inserted: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at)]);
}

function noise(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.below(256)));
}

function segment(marker: number, payload: Buffer): Buffer {
  const head = Buffer.from([0xff, marker, 0, 0]);
  head.writeUInt16BE(Math.min(0xffff, payload.length + 2), 2);
  return Buffer.concat([head, payload]);
}

/** An EXIF segment with an orientation, sometimes with faults. */
function exifSegment(random: Random): Buffer {
  const big = random.chance(50);
  const entries = random.several(50, 5);
  const tiff = Buffer.alloc(8 + 2 + 12 * entries + 4 + random.below(20));
  const u16 = (value: number, at: number): number => tiff[big ? "writeUInt16BE" : "writeUInt16LE"](value & 0xffff, at);
  const u32 = (value: number, at: number): number => tiff[big ? "writeUInt32BE" : "writeUInt32LE"](value >>> 0, at);
  tiff.write(big ? "MM" : "II", 0, "latin1");
  u16(random.chance(95) ? 42 : random.interesting(), 2);
  u32(random.chance(90) ? 8 : random.interesting(), 4);
  u16(random.chance(90) ? entries : random.interesting(), 8);
  for (let i = 0; i < entries; i++) {
    const at = 10 + 12 * i;
    u16(random.chance(70) ? 0x112 : random.below(65536), at);
    u16(random.chance(70) ? 3 : random.below(20), at + 2);
    u32(random.chance(80) ? 1 : random.interesting(), at + 4);
    if (random.chance(80)) u16(random.below(10), at + 8);
    else u32(random.interesting(), at + 8);
  }
  const head = Buffer.from("Exif\0\0".repeat(random.chance(90) ? 1 : 2), "latin1");
  const payload = Buffer.concat([head, random.chance(80) ? tiff : tiff.subarray(0, random.below(tiff.length))]);
  return segment(0xe1, payload);
}

/** Each changes a copy of its own, or returns a new buffer. */
const mutations: Readonly<Record<string, (bytes: Buffer, random: Random, seeds: readonly Buffer[]) => Buffer>> = {
  "cut anywhere": (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1)),
  "cut near the end": (bytes, random) => bytes.subarray(0, Math.max(0, bytes.length - random.below(40))),
  "cut at a segment": (bytes, random) => {
    const segments = segmentsOf(bytes);
    if (segments.length === 0) return bytes;
    const { at, size, end } = random.pick(segments);
    return bytes.subarray(0, Math.max(0, random.pick([at, at + 1, at + 2, at + 3, at + 4, at + size, end]) + random.below(3) - 1));
  },
  "bits of the header": (bytes, random) => flip(bytes, random, () => placeIn(bytes, random, () => true)),
  "bits of the data": (bytes, random) => flip(bytes, random, () => placeInData(bytes, random)),
  "bytes of tables": (bytes, random) => {
    const isTable = (marker: number): boolean => marker === DHT || marker === DQT;
    for (let i = random.several(60, 8); i > 0; i--) set(bytes, placeIn(bytes, random, isTable), random);
    return bytes;
  },
  "frame or scan header": (bytes, random) => {
    const isHeader = (marker: number): boolean => isFrame(marker) || marker === SOS;
    for (let i = random.several(40, 4); i > 0; i--) set(bytes, placeIn(bytes, random, isHeader), random);
    return bytes;
  },
  "length of a segment": (bytes, random) => {
    const long = segmentsOf(bytes).filter(({ size }) => size >= 4);
    if (long.length > 0) bytes.writeUInt16BE(random.interesting() & 0xffff, random.pick(long).at + 2);
    return bytes;
  },
  "dimensions": (bytes, random) => {
    const frame = segmentsOf(bytes).find(({ marker, size }) => isFrame(marker) && size >= 9);
    if (frame === undefined) return bytes;
    const side = (): number => random.chance(85) ? random.below(400) : random.chance(80) ? random.below(3000) : random.below(65536);
    if (random.chance(70)) bytes.writeUInt16BE(side(), frame.at + 5);
    if (random.chance(70)) bytes.writeUInt16BE(side(), frame.at + 7);
    return bytes;
  },
  "kind of frame": (bytes, random) => {
    const frame = segmentsOf(bytes).find(({ marker }) => isFrame(marker));
    if (frame !== undefined) bytes[frame.at + 1] = 0xc0 + random.below(16);
    return bytes;
  },
  "segment twice": (bytes, random) => {
    const segments = segmentsOf(bytes);
    if (segments.length === 0) return bytes;
    const { at, end } = random.pick(segments);
    return insert(bytes, random.chance(50) ? end : random.pick(segments).at, bytes.subarray(at, end));
  },
  "segment left out": (bytes, random) => {
    const segments = segmentsOf(bytes);
    if (segments.length === 0) return bytes;
    const { at, end } = random.pick(segments);
    return without(bytes, at, end);
  },
  "many scans": (bytes, random) => {
    const scans = segmentsOf(bytes).filter(({ marker, at, end }) => marker === SOS && end - at < 3000);
    if (scans.length === 0) return bytes;
    const { at, end } = random.pick(scans);
    const count = random.chance(80) ? random.below(50) : random.below(3000);
    return insert(bytes, end, Buffer.concat(new Array<Buffer>(count).fill(bytes.subarray(at, end))));
  },
  "marker in the data": (bytes, random) => {
    const common = random.pick([SOI, EOI, SOS, DHT, DQT, DRI, 0xc0, 0xfe, 0xff]);
    const marker = Buffer.from([0xff, random.chance(50) ? common : random.below(256)]);
    const at = placeInData(bytes, random);
    return random.chance(50) ? insert(bytes, at, marker) : Buffer.concat([bytes.subarray(0, at), marker, bytes.subarray(at + 2)]);
  },
  "restart markers": (bytes, random) => {
    if (random.chance(50)) return insert(bytes, segmentsOf(bytes)[1]?.at ?? 0, segment(DRI, Buffer.from([0, random.below(20)])));
    for (let at = bytes.indexOf(0xff); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
      const next = bytes[at + 1] ?? 0;
      if (next >= 0xd0 && next <= 0xd7 && random.chance(20)) bytes[at + 1] = 0xd0 + random.below(8);
    }
    return bytes;
  },
  "run of zeros": (bytes, random) => {
    const at = random.below(Math.max(1, bytes.length));
    return bytes.fill(random.chance(70) ? 0 : 0xff, at, Math.min(bytes.length, at + random.below(300)));
  },
  "piece moved": (bytes, random) => {
    const [from, to] = [random.below(bytes.length + 1), random.below(bytes.length + 1)];
    const piece = Buffer.from(bytes.subarray(from, from + random.below(300)));
    return random.chance(50) ? insert(bytes, to, piece) : without(bytes, from, from + piece.length);
  },
  "head and tail of two": (bytes, random, seeds) => {
    const other = random.pick(seeds);
    return Buffer.concat([bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length + 1))]);
  },
  "EXIF": (bytes, random) => {
    const segments = Array.from({ length: random.several(20, 3) }, () => exifSegment(random));
    return insert(bytes, Math.min(2, bytes.length), Buffer.concat(segments));
  },
  "other segment": (bytes, random) => {
    const xmp = 'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="6"';
    const names = ["JFIF\0\x01\x02", "Adobe\0\x64\0\0\0\0", "Exif\0\0", xmp, "ICC_PROFILE\0"];
    const payload = Buffer.concat([Buffer.from(random.pick(names), "latin1"), noise(random, random.below(40))]);
    return insert(bytes, Math.min(2, bytes.length), segment(random.pick([0xe0, 0xe1, 0xe2, 0xee, 0xfe]), payload));
  },
  "appended": (bytes, random) => {
    const tail = random.chance(50) ? noise(random, random.below(100)) : random.pick([bytes, bytes.subarray(0, 100)]);
    return Buffer.concat([bytes, tail]);
  },
};

function flip(bytes: Buffer, random: Random, place: () => number): Buffer {
  for (let i = random.several(60, 10); i > 0 && bytes.length > 0; i--) {
    const at = Math.min(place(), bytes.length - 1);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  }
  return bytes;
}

function set(bytes: Buffer, at: number, random: Random): void {
  if (at < bytes.length) bytes[at] = random.chance(50) ? random.below(256) : random.pick([0, 1, 2, 0x11, 0x22, 0x7f, 0x80, 0xff]);
}

const names = weighted(Object.fromEntries(Object.keys(mutations).map((name) => [name, 1])));

/** A file made from one of the seeds: as it is, with one fault, or with several; or no image at all. */
export function mutateImage(seeds: readonly Buffer[], random: Random): MutatedImage {
  const seed = random.pick(seeds);
  if (random.chance(2)) return { bytes: seed, strategy: "as it is" };
  if (random.chance(1)) return { bytes: noise(random, random.below(100)), strategy: "no image" };
  if (random.chance(1)) {
    return { bytes: Buffer.concat([Buffer.from([0xff, 0xd8, 0xff]), noise(random, random.below(2000))]), strategy: "no image" };
  }
  let bytes = Buffer.from(seed);
  const count = random.several(25, 4);
  let strategy = "several";
  for (let i = 0; i < count; i++) {
    const name = random.pick(names);
    if (count === 1) strategy = name;
    // Empty files have nowhere to change.
    if (bytes.length > 0) bytes = Buffer.from((mutations[name] as (typeof mutations)[string])(bytes, random, seeds));
  }
  return { bytes, strategy };
}
