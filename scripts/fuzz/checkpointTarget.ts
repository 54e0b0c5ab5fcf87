import { fileURLToPath } from "node:url";
import { Op } from "../../lib/checkpoint/pickle/pickleOpcodes.js";
import { loadSeeds, type CheckpointSeeds, type LegacySeed, type ZipSeed } from "./checkpointSeeds.js";
import type { Depth, FuzzInput, FuzzTarget } from "./fuzzTarget.js";
import { mutateProgram } from "./pickleMutator.js";
import { assemble, bare, integer, text, type Instruction } from "./pickleProgram.js";
import { anyPickle, word, type OfferedStorage } from "./pickleValues.js";
import { weighted, type Random } from "./random.js";
import { honestZip, mutatedZip } from "./zipMutator.js";
import type { ModelEntry } from "./zipModel.js";

const strategies = weighted({
  "pickle in a zip": 27, "new pickle in a zip": 36, "zip fields": 12, "pickle in a legacy file": 6, "new pickle in a legacy file": 14,
  "legacy layout": 3, bytes: 2,
});
const kindsOfZip = weighted({ tiny: 86, zips: 9, hostile: 5 });

/** The reader of PyTorch's zip and legacy files. */
export function checkpointTarget(): FuzzTarget {
  const seeds = loadSeeds(fileURLToPath(new URL("../../../test/fixtures", import.meta.url)));
  return { name: "checkpoint", extension: "pth", writeFormat: "zip", input: (random) => makeInput(seeds, random), classify };
}

function makeInput(seeds: CheckpointSeeds, random: Random): FuzzInput {
  const strategy = random.pick(strategies);
  const options = {
    unknownGlobals: random.chance(50) ? "error" : "placeholder", tagFloats: random.chance(50),
  } as const;
  const common = { strategy, options, throughFile: random.below(200) === 0, writeBack: random.below(16) === 0 };
  const zip = random.pick(seeds[random.pick(kindsOfZip)]);
  const legacy = random.pick(random.chance(90) ? seeds.tinyLegacies : seeds.legacies);
  switch (strategy) {
    case "pickle in a zip": return { ...common, ...zipAround(zip.program, zip, seeds, random) };
    case "new pickle in a zip": return { ...common, ...newZip(seeds, random) };
    case "zip fields": {
      const context = { random, storages: zip.storages, memo: 50 };
      const program = random.chance(80) ? zip.program : mutateProgram(zip.program, seeds.programs, context);
      return { ...common, bytes: mutatedZip(withPickle(program, zip, zip.others), random) };
    }
    case "pickle in a legacy file": return { ...common, ...legacyAround(legacy, seeds, random) };
    case "new pickle in a legacy file": return { ...common, ...newLegacy(seeds, random) };
    case "legacy layout": return { ...common, bytes: legacyLayout(legacy, seeds, random) };
    case "bytes": return { ...common, bytes: flipBytes(random.pick(seeds.files), random) };
  }
}

// --- Zip files ------------------------------------------------------------------------------------------------------------

function withPickle(program: readonly Instruction[], seed: ZipSeed, others: readonly ModelEntry[]): ModelEntry[] {
  return [{ name: Buffer.from(`${seed.folder}data.pkl`), data: assemble(program) }, ...others];
}

type Made = Pick<FuzzInput, "bytes" | "parts">;

function zipAround(origin: readonly Instruction[], seed: ZipSeed, seeds: CheckpointSeeds, random: Random): Made {
  const program = mutateProgram(origin, seeds.programs, { random, storages: seed.storages, memo: 50 });
  return {
    bytes: honestZip(withPickle(program, seed, seed.others), random),
    parts: {
      count: program.length,
      build: (kept) => honestZip(withPickle(kept.map((i) => program[i] as Instruction), seed, seed.others), frozen),
    },
  };
}

/** Makes the plainest zip, whatever is asked. */
const frozen = { chance: () => true } as unknown as Random;

const elementBytes: Record<string, number> = { FloatStorage: 4, DoubleStorage: 8, HalfStorage: 2, BFloat16Storage: 2, LongStorage: 8,
  ByteStorage: 1, BoolStorage: 1, ComplexFloatStorage: 8 };
const types = Object.keys(elementBytes);

function offer(random: Random): OfferedStorage[] {
  return Array.from({ length: random.below(4) }, (_, i) => ({ key: String(i), type: random.pick(types), elements: random.below(40) }));
}

function contentOfStorage({ type, elements }: OfferedStorage, random: Random): Buffer {
  return Buffer.alloc(elements * (elementBytes[type] as number), random.chance(50) ? 0 : random.below(256));
}

function newZip(seeds: CheckpointSeeds, random: Random): Made {
  const storages = offer(random);
  const others = storages.map((storage) => ({ name: Buffer.from(`x/data/${storage.key}`), data: contentOfStorage(storage, random) }));
  const seed: ZipSeed = { name: "new", folder: "x/", program: [], others, storages };
  const program = anyPickle({ random, storages, memo: 0 });
  if (random.chance(40)) return zipAround(program, seed, seeds, random);
  return {
    bytes: honestZip(withPickle(program, seed, others), random),
    parts: {
      count: program.length,
      build: (kept) => honestZip(withPickle(kept.map((i) => program[i] as Instruction), seed, others), frozen),
    },
  };
}

// --- Legacy files ---------------------------------------------------------------------------------------------------------

function legacyFile(programs: readonly (readonly Instruction[])[], tail: Uint8Array): Buffer {
  return Buffer.concat([...programs.map(assemble), tail]);
}

function legacyAround(seed: LegacySeed, seeds: CheckpointSeeds, random: Random): Made {
  const programs = [...seed.programs];
  const which = random.chance(92) ? 3 : random.below(5);
  const program = mutateProgram(programs[which] as Instruction[], seeds.programs, { random, storages: seed.storages, memo: 50 });
  const build = (changed: readonly Instruction[]): Buffer => legacyFile(programs.map((one, i) => (i === which ? changed : one)), seed.tail);
  return { bytes: build(program), parts: { count: program.length, build: (kept) => build(kept.map((i) => program[i] as Instruction)) } };
}

function newLegacy(seeds: CheckpointSeeds, random: Random): Pick<FuzzInput, "bytes"> {
  const storages = offer(random);
  let program: readonly Instruction[] = anyPickle({ random, storages, memo: 0 });
  if (random.chance(40)) program = mutateProgram(program, seeds.programs, { random, storages, memo: 50 });
  // Only the storages that the value names may follow.
  const texts = program.filter(({ opcode }) => opcode === Op.BINUNICODE);
  const named = new Set(texts.map(({ bytes }) => Buffer.from(bytes.subarray(5)).toString("latin1")));
  const following = random.chance(90) ? storages.filter(({ key }) => named.has(key)) : storages;
  const head = (random.pick(seeds.legacies)).programs.slice(0, 3);
  const keys = [
    ...(head[0] as Instruction[]).slice(0, 1), bare(Op.EMPTY_LIST), bare(Op.MARK),
    ...following.map(({ key }) => (random.chance(90) ? text(key) : random.chance(50) ? integer(Number(key)) : text(word(random)))),
    bare(Op.APPENDS), bare(Op.STOP),
  ];
  const tail = following.flatMap((storage) => [countBytes(random.chance(95) ? storage.elements : random.interesting()),
    contentOfStorage(storage, random)]);
  return { bytes: legacyFile([...head, program, keys], Buffer.concat(tail)) };
}

function countBytes(count: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt.asIntN(64, BigInt(count)));
  return bytes;
}

/** Pickles left out, repeated or exchanged; storages moved, cut, or with other counts. */
function legacyLayout(seed: LegacySeed, seeds: CheckpointSeeds, random: Random): Buffer {
  const programs = [...seed.programs];
  const at = random.below(programs.length);
  const tail = Buffer.from(seed.tail);
  switch (random.below(7)) {
    case 0: programs.splice(at, 1); break;
    case 1: programs.splice(at, 0, programs[at] as Instruction[]); break;
    case 2: programs[at] = random.pick(seeds.programs); break;
    case 3: programs.push(...programs.splice(at, 1)); break;
    case 4: {
      // The first storage's count, or bytes anywhere behind.
      const place = random.chance(50) || tail.length < 9 ? 0 : random.below(tail.length - 8);
      if (tail.length >= 8) countBytes(random.interesting()).copy(tail, place);
      break;
    }
    case 5: return legacyFile(programs, tail.subarray(0, random.below(tail.length + 1)));
    default: {
      const keys = programs[4] as Instruction[];
      programs[4] = mutateProgram(keys, [keys], { random, storages: seed.storages, memo: 50 });
    }
  }
  return legacyFile(programs, tail);
}

function flipBytes(file: Buffer, random: Random): Buffer {
  const bytes = Buffer.from(file);
  if (random.chance(30)) return bytes.subarray(0, random.below(bytes.length));
  // Half of the flips in what stands at the ends: headers, pickles and directories.
  for (let i = random.several(60, 20); i > 0; i--) {
    const near = random.below(Math.min(400, bytes.length));
    const at = random.chance(50) ? random.below(bytes.length) : random.chance(50) ? near : bytes.length - 1 - near;
    bytes[at] = random.chance(50) ? random.below(256) : (bytes[at] as number) ^ (1 << random.below(8));
  }
  return bytes;
}

// --- What an error says ---------------------------------------------------------------------------------------------------

/** In order: the first that fits counts. */
const kinds: readonly (readonly [RegExp, string, Depth | null])[] = [
  [/tensors cannot be built/, "tensor refused by libtorch", "tensors"],
  [/CRC-32 is|local header|descriptor behind/, "entry differs from the zip directory", null],
  [/zip directory|end-of-directory|zip64|two end records|zip's two|several parts|another part/, "zip directory", "container"],
  [/the entry('s name|s? )|two entries|no such entry|zip has|zip holds|TorchScript|byte order|entry overlaps/, "zip entry", "container"],
  [/not a PyTorch checkpoint|file is empty/, "not a checkpoint", "container"],
  [/pickle asks for/, "global that is not allowed", "pickle"],
  [/holds itself|nested more|leaves once/, "structure", "structure"],
  [/storage keys|storages follow|follows, but|bytes follow|reach beyond|elements, the value/, "legacy storages", "structure"],
  [/beyond \d+ bytes \(twice/, "memory budget", "pickle"],
  [/file ends here|pickle ends inside/, "cut short", null],
  [/not UTF-8|a (byte )?string of|a length of|an integer of|a call of a string/, "string or length", "pickle"],
  [/attribute whose name/, "structure", "structure"],
  [/stack|no mark|values are left/, "stack", "pickle"],
  [/memo entry/, "memo", "pickle"],
  [/opcode|protocol|STACK_GLOBAL/, "opcode", "pickle"],
  [/storage/, "storage", "pickle"],
  [/tensor|dimensions|parameter|dtype/, "tensor", "pickle"],
  [/numpy/, "numpy", "pickle"],
  [/called|call of|BUILD|arguments|state of|torch\.device|torch\.Size|_codecs|complex|bytearray|bytes|global/, "call", "pickle"],
  [/dict|set |SETITEM|APPEND|ADDITEMS|list/, "container of values", "pickle"],
];

function classify(reason: string, entry: string | null): { kind: string; depth: Depth } {
  // Entries of storages are read once the pickle and the structure are done.
  const fallback: Depth = entry === null ? "container" : /(^|\/)data\/|^storage /.test(entry) ? "tensors" : /pkl$|byteorder$/.test(entry)
    ? "container" : "pickle";
  const found = kinds.find(([pattern]) => pattern.test(reason));
  return found === undefined ? { kind: "other", depth: "pickle" } : { kind: found[1], depth: found[2] ?? fallback };
}
