import { elementTypeNames } from "../../lib/checkpoint/safetensors/elementTypes.js";
import type { Depth, FuzzInput, FuzzTarget } from "./fuzzTarget.js";
import { word } from "./pickleValues.js";
import { weighted, type Random } from "./random.js";

/** The reader of safetensors files. */
export function safetensorsTarget(): FuzzTarget {
  return { name: "safetensors", extension: "safetensors", writeFormat: "safetensors", input: makeInput, classify };
}

/** A member of a JSON object: a key as text, and JSON for its value. Text, so that anything can stand there, and twice. */
type Member = [key: string, value: string];

interface ModelTensor {
  name: string;
  members: Member[];
  bytes: number;
}

const bits: Readonly<Record<string, number>> = {
  BOOL: 8, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, F64: 64, I64: 64,
  U64: 64, C64: 64,
};
const types = Object.keys(bits);

const strategies = weighted({ "honest file": 25, "changed members": 45, "changed text": 20, bytes: 10 });

function makeInput(random: Random): FuzzInput {
  const strategy = random.pick(strategies);
  const tensors = makeTensors(random);
  const metadata: Member[] = random.chance(50) ? [["format", JSON.stringify("pt")], [word(random), JSON.stringify(word(random))]] : [];
  if (strategy === "changed members") for (let i = random.several(30, 4); i > 0; i--) changeMembers(tensors, metadata, random);
  let header = headerText(tensors, metadata, random);
  if (strategy === "changed text") header = changeText(header, random);
  const data = Buffer.alloc(tensors.reduce((sum, { bytes }) => sum + bytes, 0), random.below(256));
  let bytes = fileOf(Buffer.from(header, "utf8"), data, random, strategy === "honest file" ? 0 : 3);
  if (strategy === "bytes") bytes = flip(bytes, random);
  return {
    bytes, strategy, options: { unknownGlobals: "error", tagFloats: random.chance(50) },
    throughFile: random.below(200) === 0, writeBack: random.below(16) === 0,
  };
}

function makeTensors(random: Random): ModelTensor[] {
  let position = 0;
  const tensors = Array.from({ length: random.below(5) }, (_, i): ModelTensor => {
    const type = random.pick(types);
    const shape = Array.from({ length: random.below(4) }, () => random.below(5));
    const bytes = shape.reduce((product, size) => product * size, (bits[type] as number) / 8);
    const begin = position;
    position += bytes;
    return {
      name: random.chance(80) ? `layers.${i}.weight` : `${word(random)}${i}`,
      bytes,
      members: [["dtype", JSON.stringify(type)], ["shape", JSON.stringify(shape)], ["data_offsets", JSON.stringify([begin, position])]],
    };
  });
  if (random.chance(30)) tensors.reverse(); // the order of the header is free
  if (random.chance(30)) for (const { members } of tensors) members.reverse();
  return tensors;
}

const oddValues = [
  "null", "true", "[]", "{}", "\"\"", "-1", "1.5", "1e3", "1e999", "00", "01", "+1", "9007199254740993", "18446744073709551616", "[[0]]",
  "[0,0,0]", "[\"0\",\"1\"]",
  "{\"a\":{}}", "\"F32\"", "\"F4\"", "\"f32\"", "[1,]", "NaN", "Infinity", "0x10", "\"\\u0000\"", "\"\\ud800\"", "\"\\q\"",
  "\"\u{1f600}\"", "'F32'",
  "[".repeat(5000), "[".repeat(500) + "]".repeat(500), "9".repeat(400), "[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9]",
  `[${"1,".repeat(80)}1]`,
];

function changeMembers(tensors: ModelTensor[], metadata: Member[], random: Random): void {
  const tensor = tensors.length === 0 ? undefined : random.pick(tensors);
  if (tensor === undefined || random.chance(10)) {
    metadata.push([random.chance(50) ? "format" : word(random), random.chance(40) ? random.pick(oddValues) : JSON.stringify(word(random))]);
    return;
  }
  const member = random.pick(tensor.members);
  if (member === undefined) return;
  switch (random.below(10)) {
    case 0: member[1] = random.pick(oddValues); return;
    case 1: member[0] = random.chance(50) ? word(random) : random.pick(["dtype", "shape", "data_offsets", "__metadata__"]); return;
    case 2: tensor.members.push([...member]); return;
    case 3: tensor.members.splice(tensor.members.indexOf(member), 1); return;
    case 4: tensor.name = random.chance(50) ? word(random) : random.chance(30) ? "__metadata__" : random.pick(tensors).name; return;
    case 5: tensors.push({ ...tensor, bytes: 0 }); return;
    case 6: tensor.bytes = Math.max(0, tensor.bytes + random.below(9) - 4); return;
    case 7: if (member[0] === "dtype") member[1] = JSON.stringify(random.pick(elementTypeNames)); return;
    default: {
      // One number of a list, by a little or by much.
      if (!/^\[\d+(,\d+)*\]$/.test(member[1])) return;
      const numbers = JSON.parse(member[1]) as number[];
      const at = random.below(numbers.length);
      const changed = random.chance(50) ? (numbers[at] as number) + random.below(5) - 2 : random.interesting();
      member[1] = `[${numbers.map((number, i) => (i === at ? BigInt(changed).toString() : String(number))).join(",")}]`;
    }
  }
}

function object(members: readonly Member[], space: string): string {
  return `{${members.map(([key, value]) => `${JSON.stringify(key)}:${space}${value}`).join(`,${space}`)}}`;
}

function headerText(tensors: readonly ModelTensor[], metadata: readonly Member[], random: Random): string {
  const space = random.chance(20) ? random.pick([" ", "\n", "\t ", "\r\n"]) : "";
  const members: Member[] = tensors.map(({ name, members: fields }) => [name, object(fields, space)]);
  if (metadata.length > 0) members.splice(random.below(members.length + 1), 0, ["__metadata__", object(metadata, space)]);
  const text = object(members, space);
  return text.padEnd(Math.ceil(text.length / 8) * 8, " ");
}

function changeText(text: string, random: Random): string {
  let changed = text;
  for (let i = random.several(40, 5); i > 0; i--) {
    const at = random.below(changed.length);
    const length = random.several(50, 8);
    switch (random.below(4)) {
      case 0: changed = changed.slice(0, at) + changed.slice(at + length); break;
      case 1: changed = changed.slice(0, at) + changed.slice(at, at + length) + changed.slice(at); break;
      case 2: changed = changed.slice(0, at) + random.pick(["{", "}", "[", "]", "\"", ":", ",", " ", "\\", "0", "-", "\u0000",
        "\u{1f600}", "\\u0041"]) + changed.slice(at); break;
      default: changed = changed.slice(0, at) + random.pick(oddValues) + changed.slice(at + length);
    }
  }
  return changed;
}

/** Prefix, header and data; in `percent` of the cases the prefix says something else, or something is cut off or follows. */
function fileOf(header: Buffer, data: Buffer, random: Random, percent: number): Buffer {
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  if (random.chance(percent)) prefix.writeBigUInt64LE(BigInt.asUintN(64,
    BigInt(random.chance(50) ? header.length + random.below(9) - 4 : random.interesting())));
  const file = Buffer.concat([prefix, header, data]);
  if (random.chance(percent)) return file.subarray(0, random.below(file.length));
  if (random.chance(percent)) return Buffer.concat([file, Buffer.alloc(1 + random.below(9))]);
  return file;
}

function flip(file: Buffer, random: Random): Buffer {
  const bytes = Buffer.from(file);
  for (let i = random.several(50, 10); i > 0; i--) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
  return bytes;
}

const kinds: readonly (readonly [RegExp, string, Depth])[] = [
  [/not a PyTorch checkpoint|file is empty|not a pickle|protocol/, "not a checkpoint", "container"],
  [/header claims|not UTF-8/, "header's length or encoding", "container"],
  [/twice|two dtypes|two shapes/, "named twice", "pickle"],
  [/has to be|needs |header ends|control character|only spaces|escape|follows the header/, "JSON", "pickle"],
  [/dtype/, "dtype", "pickle"],
  [/has no |has a field|data_offsets has|more than/, "fields", "pickle"],
  [/takes \d+ bytes, but data_offsets|overflows|before its begin|expected an integer/, "sizes", "pickle"],
  [/bytes start at|the tensors take|bytes follow/, "layout of the data", "structure"],
  [/beyond \d+ bytes \(twice/, "memory budget", "pickle"],
  [/file ends here|end-of-directory/, "cut short", "container"],
];

function classify(reason: string): { kind: string; depth: Depth } {
  const found = kinds.find(([pattern]) => pattern.test(reason));
  return found === undefined ? { kind: "other", depth: "pickle" } : { kind: found[1], depth: found[2] };
}
