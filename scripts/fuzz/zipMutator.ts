import type { Random } from "./random.js";
import { assembleZip, plainShape, type ModelEntry, type ZipField, type ZipShape } from "./zipModel.js";

const badNames = [
  "", "/x/data.pkl", "../PWNED", "x/../PWNED", "x\\data.pkl", "C:/data.pkl", "x/data.pkl\0", "x//data.pkl", "data.pkl", "y/data.pkl",
    "x/constants.pkl",
  "x/byteorder", "x/data/", "x/./data.pkl", "x/data/0", "x/data/1", "\ufeffx", "x/.data/serialization_id", "n".repeat(400),
].map((name) => Buffer.from(name));
const notUtf8 = Buffer.of(0x78, 0x2f, 0xff, 0xfe);
const badExtras = [
  Buffer.of(1, 0), Buffer.of(1, 0, 8, 0), Buffer.of(1, 0, 0, 0, 1, 0, 0, 0), Buffer.of(1, 0, 4, 0, 9, 9, 9, 9),
    Buffer.of(0x75, 0x70, 5, 0, 1, 0, 0, 0, 0),
  Buffer.from("FB\xff\xff", "latin1"),
];

/** A variation that any honest program may write. */
function vary(entries: readonly ModelEntry[], random: Random): { entries: ModelEntry[]; shape: ZipShape } {
  const descriptor = random.chance(30);
  const wide = random.chance(15);
  const padding = random.chance(20) ? random.below(64) : undefined;
  return {
    entries: entries.map((entry) => ({ ...entry, descriptor, wide, padding })),
    shape: { ...plainShape, zip64End: random.chance(20), comment: random.chance(3) ? Buffer.from("PK\x05\x06 comment", "latin1")
      : plainShape.comment },
  };
}

/** A zip without faults of its own. */
export function honestZip(entries: readonly ModelEntry[], random: Random): Buffer {
  if (random.chance(60)) return assembleZip(entries, plainShape).bytes;
  const varied = vary(entries, random);
  return assembleZip(varied.entries, varied.shape).bytes;
}

/** A zip whose structure or fields are wrong in one to a few places; everything else is right, so that the reader goes deep. */
export function mutatedZip(original: readonly ModelEntry[], random: Random): Buffer {
  const { entries, shape } = vary(original, random);
  let outline = shape;
  for (let i = random.several(25, 4); i > 0; i--) outline = changeStructure(entries, outline, random);
  const { bytes, fields } = assembleZip(entries, outline);
  if (random.chance(60)) for (let i = random.several(30, 5); i > 0; i--) overwrite(bytes, random.pick(fields), random);
  if (random.chance(5)) return bytes.subarray(0, random.below(bytes.length));
  if (random.chance(3)) return Buffer.concat([bytes, Buffer.alloc(1 + random.below(30))]);
  return bytes;
}

function overwrite(bytes: Buffer, { at, width }: ZipField, random: Random): void {
  const low = Math.min(width, 4);
  if (random.chance(40)) {
    const value = bytes.readUIntLE(at, low) + random.below(5) - 2;
    bytes.writeUIntLE(Math.max(0, Math.min(value, 2 ** (8 * low) - 1)), at, low);
  } else if (random.chance(30)) {
    bytes[at + random.below(width)] ^= 1 << random.below(8);
  } else {
    const value = BigInt.asUintN(8 * width, BigInt(random.interesting()));
    for (let i = 0; i < width; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 255n);
  }
}

/** Changes `entries` in place and gives the new outline. */
function changeStructure(entries: ModelEntry[], shape: ZipShape, random: Random): ZipShape {
  const at = random.below(entries.length);
  const entry = entries[at];
  if (entry === undefined) return shape;
  switch (random.below(17)) {
    case 0: entries.splice(random.below(entries.length + 1), 0, entry); return shape; // the same name twice
    case 1: entries[at] = { ...entry, name: random.chance(5) ? notUtf8 : random.pick(badNames) }; return shape;
    case 2: entries.push({ name: random.pick(badNames), data: entry.data }); return shape;
    case 3: if (entries.length > 1) entries.splice(at, 1); return shape;
    case 4: {
      const other = random.below(entries.length);
      entries[at] = entries[other] as ModelEntry;
      entries[other] = entry;
      return shape;
    }
    case 5: entries[at] = { ...entry, claimsPlaceOf: random.below(entries.length) }; return shape;
    case 6: entries[at] = { ...entry, hidden: true }; return shape;
    case 7: entries[at] = { ...entry, wide: !entry.wide }; return shape;
    case 8: entries[at] = { ...entry, descriptor: !entry.descriptor }; return shape;
    case 9: entries[at] = { ...entry, extra: random.pick(badExtras) }; return shape;
    case 10: entries[at] = { ...entry, comment: Buffer.from("a comment") }; return shape;
    case 11: entries[at] = { ...entry, data: entry.data.subarray(0, random.below(entry.data.length + 1)) }; return shape;
    case 12: entries[at] = { ...entry, data: Buffer.concat([entry.data, Buffer.alloc(1 + random.below(16))]) }; return shape;
    case 13: return { ...shape, zip64End: !shape.zip64End };
    case 14: return { ...shape, gap: random.below(40) };
    case 15: return { ...shape, comment: Buffer.concat([Buffer.from("PK\x05\x06", "latin1"), Buffer.alloc(random.below(40))]) };
    default: return { ...shape, directoryOrder: entries.map(() => random.below(entries.length)) };
  }
}
