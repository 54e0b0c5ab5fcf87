import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Op } from "../../lib/checkpoint/pickle/pickleOpcodes.js";
import { writePickle } from "../../lib/checkpoint/pickle/pickleWriter.js";
import { OrderedDict, PythonFloat, PythonTuple, TorchSize } from "../../lib/checkpoint/pythonValues.js";
import { contiguousStrides, StorageReference, TensorReference } from "../../lib/checkpoint/references.js";
import { dtypes, type DType } from "../../lib/torch/dtype.js";
import { bare, parseProgram, text, withInteger, type Instruction } from "./pickleProgram.js";
import type { OfferedStorage } from "./pickleValues.js";
import { entriesOf, type ModelEntry } from "./zipModel.js";

/** A zip checkpoint taken apart. */
export interface ZipSeed {
  readonly name: string;
  readonly folder: string;
  readonly program: readonly Instruction[];
  /** Every entry but the pickle. */
  readonly others: readonly ModelEntry[];
  readonly storages: readonly OfferedStorage[];
}

/** A legacy checkpoint taken apart: the pickles, and what follows them. */
export interface LegacySeed {
  readonly name: string;
  readonly programs: readonly (readonly Instruction[])[];
  readonly tail: Buffer;
  readonly storages: readonly OfferedStorage[];
}

export interface CheckpointSeeds {
  /** Small ones of our own. */
  readonly tiny: readonly ZipSeed[];
  readonly tinyLegacies: readonly LegacySeed[];
  readonly zips: readonly ZipSeed[];
  readonly legacies: readonly LegacySeed[];
  /** Zips that are refused as they are. */
  readonly hostile: readonly ZipSeed[];
  /** The pickles of all, to take parts from. */
  readonly programs: readonly (readonly Instruction[])[];
  /** The files as they are, small ones only. */
  readonly files: readonly Buffer[];
}

/** Larger files would make inputs slow without making them different. */
const LONGEST_PICKLE = 4000;
const LARGEST_FILE = 40_000;

/** Real checkpoints of each kind, and hostile ones. */
export function loadSeeds(fixtures: string): CheckpointSeeds {
  const zips: ZipSeed[] = [];
  const legacies: LegacySeed[] = [];
  const hostile: ZipSeed[] = [];
  const files: Buffer[] = [];
  for (const folder of ["checkpoints", "unsafe"]) {
    for (const name of readdirSync(join(fixtures, folder)).sort()) {
      if (!/\.(pth|tar)$/.test(name)) continue;
      const bytes = readFileSync(join(fixtures, folder, name));
      if (bytes.length > LARGEST_FILE) continue;
      files.push(bytes);
      if (bytes[0] === 0x80) legacies.push(...(/^\d\d_/.test(name) ? [] : legacySeed(name, bytes)));
      else (/^\d\d_/.test(name) ? hostile : zips).push(...zipSeed(name, bytes));
    }
  }
  const programs = [...[...zips, ...hostile].map(({ program }) => program),
    ...legacies.map(({ programs: all }) => all[3] as Instruction[])];
  const tiny = tinySeeds();
  const [first] = legacies;
  const tinyLegacies = first === undefined ? [] : tiny.filter(({ name }) => name !== "odd").map((seed) => asLegacy(seed, first));
  return { tiny, tinyLegacies, zips, legacies, hostile, programs, files };
}

/** The same value as a legacy file, with the first three pickles of a real one. */
function asLegacy({ name, program, others, storages }: ZipSeed, real: LegacySeed): LegacySeed {
  const keys = [
    withInteger(Op.PROTO, 2), bare(Op.EMPTY_LIST), bare(Op.MARK), ...storages.map(({ key }) => text(key)), bare(Op.APPENDS), bare(Op.STOP),
  ];
  const tail = Buffer.concat(storages.flatMap(({ key, elements }) => {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(elements));
    return [count, others.find((entry) => entry.name.toString("latin1").endsWith(`data/${key}`))?.data ?? Buffer.alloc(0)];
  }));
  return { name, programs: [...real.programs.slice(0, 3), program, keys], tail, storages };
}

/** Training checkpoints and the like of a few hundred bytes, by our own writer: most inputs start from these, which makes them fast. */
function tinySeeds(): ZipSeed[] {
  const tensor = (key: number, dtype: DType, size: readonly number[]): TensorReference => {
    const bytes = size.reduce((product, extent) => product * extent, dtypes[dtype].itemSize);
    return new TensorReference(new StorageReference(String(key), "cpu", bytes), dtype, 0, size, contiguousStrides(size), false);
  };
  const state = new OrderedDict<string, unknown>([
    ["module.base_encoder.cls_token", tensor(0, "float32", [1, 1, 4])], ["module.predictor.1.num_batches_tracked", tensor(1, "int64", [])],
  ]);
  state.attributes = { _metadata: new OrderedDict([["", { version: 1 }]]) };
  const training = {
    epoch: 3, arch: "vit_small", state_dict: state, scaler: { scale: 65536, growth_factor: new PythonFloat(2), _growth_tracker: 0 },
    optimizer: {
      state: new Map([[0, { step: tensor(2, "float32", []), exp_avg: tensor(3, "float32", [1, 1, 4]) }]]),
      param_groups: [{ lr: 1e-4, betas: PythonTuple.fromArray([0.9, 0.999]), weight_decay: 0.1, params: [0, 1] }],
    },
  };
  const odd = new OrderedDict<string, unknown>([["weight", tensor(0, "bfloat16", [3, 2])], ["bias", tensor(1, "float8_e4m3fn", [3])]]);
  const plain = { list: [1, null, true, "text", new Uint8Array(3)], set: new Set([1, "a"]), big: 2n ** 70n,
    size: TorchSize.fromArray([2, 3]) };
  return Object.entries({ training, odd, plain }).flatMap(([name, value]) => {
    const storages = new Map<string, number>();
    const pickle = writePickle(value, { file: name }, (candidate) => {
      if (!(candidate instanceof TensorReference)) return null;
      storages.set(candidate.storage.key, candidate.storage.byteLength);
      return candidate;
    });
    const data = [...storages].map(([key, bytes]) => ({ name: Buffer.from(`archive/data/${key}`), data: Buffer.alloc(bytes, 1) }));
    return zipSeedOf(name, [{ name: Buffer.from("archive/data.pkl"), data: pickle }, ...data]);
  });
}

function zipSeed(name: string, bytes: Buffer): ZipSeed[] {
  return zipSeedOf(name, entriesOf(bytes));
}

function zipSeedOf(name: string, entries: readonly ModelEntry[]): ZipSeed[] {
  const pickle = entries.find((entry) => entry.name.toString("latin1").endsWith("data.pkl"));
  if (pickle === undefined || pickle.data.length > LONGEST_PICKLE) return [];
  const folder = pickle.name.toString("latin1").slice(0, -"data.pkl".length);
  const { program } = parseProgram(Buffer.from(pickle.data));
  const others = entries.filter((entry) => entry !== pickle);
  const stored = new Map(others.map((entry) => [entry.name.toString("latin1").slice(folder.length), entry.data.length]));
  const storages = storagesOf(program).filter(({ key }) => stored.has(`data/${key}`));
  return [{ name, folder, program, others, storages }];
}

function legacySeed(name: string, bytes: Buffer): LegacySeed[] {
  const programs: Instruction[][] = [];
  let at = 0;
  while (programs.length < 5 && at < bytes.length) {
    const { program, end } = parseProgram(bytes, at);
    programs.push(program);
    at = end;
  }
  if (programs.length < 5 || (programs[3] as Instruction[]).length > LONGEST_PICKLE) return [];
  return [{ name, programs, tail: bytes.subarray(at), storages: storagesOf(programs[3] as Instruction[]) }];
}

/** The storages that a pickle names: the opcodes before BINPERSID hold class, key, location and number of elements. */
function storagesOf(program: readonly Instruction[]): OfferedStorage[] {
  const found = new Map<string, OfferedStorage>();
  let type = "FloatStorage";
  let texts: string[] = [];
  let number = 0;
  for (const { opcode, bytes } of program) {
    const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (opcode === Op.GLOBAL) {
      const [, storage] = /\n(\w+Storage)\n$/.exec(content.toString("latin1")) ?? [];
      if (storage !== undefined) type = storage;
    } else if (opcode === Op.BINUNICODE) texts = [...texts.slice(-2), content.toString("utf8", 5)];
    else if (opcode === Op.BININT1) number = content[1] as number;
    else if (opcode === Op.BININT2) number = content.readUInt16LE(1);
    else if (opcode === Op.BININT) number = content.readInt32LE(1);
    else if (opcode === Op.BINPERSID) {
      // The location is in the memo but for the first time: the key is then the last text, else the one before it.
      const key = texts.findLast((candidate) => /^\d+$/.test(candidate));
      if (key !== undefined && !found.has(key)) found.set(key, { key, type, elements: number });
    }
  }
  return [...found.values()];
}
