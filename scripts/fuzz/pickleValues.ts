import { Op } from "../../lib/checkpoint/pickle/pickleOpcodes.js";
import { bare, global, integer, long, text, withContent, withDouble, withInteger, type Instruction } from "./pickleProgram.js";
import { weighted, type Random } from "./random.js";

/** A storage that a file offers: its key, its class, its number of elements. */
export interface OfferedStorage {
  readonly key: string;
  readonly type: string;
  readonly elements: number;
}

/** Where a generated value stands: what it may refer to. */
export interface ValueContext {
  readonly random: Random;
  readonly storages: readonly OfferedStorage[];
  /** Memo entries that are known to be set; generating adds to it. */
  memo: number;
}

const words = [
  "state_dict", "epoch", "arch", "optimizer", "scaler", "best_acc1", "module.base_encoder.cls_token", "weight", "bias", "_metadata",
  "version",
  "storage", "cpu", "cuda:0", "cuda", "meta", "0", "1", "10", "-1", "__proto__", "constructor", "toString", "valueOf", "then", "length",
  "data",
  "", " ", "\0", "ü", "\u{1f600}", "\ufeff", "../PWNED", "\u001b[31m", "f4", "f8", "i8", "b1", "O", "<", ">", "|", "latin1", "utf-8",
  "little", "C", "F",
  "os", "system", "touch PWNED", "a".repeat(300),
];

/** Globals of the allow-list, and some that are not on it. */
const globals: readonly (readonly [string, string])[] = [
  ["collections", "OrderedDict"], ["collections", "Counter"], ["argparse", "Namespace"], ["torch", "Size"], ["torch", "device"],
  ["torch._utils", "_rebuild_tensor"], ["torch._utils", "_rebuild_tensor_v2"], ["torch._utils", "_rebuild_tensor_v3"],
  ["torch._utils", "_rebuild_parameter"], ["torch._utils", "_rebuild_parameter_with_state"], ["torch._tensor", "_rebuild_from_type_v2"],
  ["torch", "FloatStorage"], ["torch", "LongStorage"], ["torch", "ByteStorage"], ["torch.cuda", "HalfStorage"],
  ["torch.storage", "UntypedStorage"],
  ["torch", "ComplexDoubleStorage"], ["torch", "BoolStorage"], ["torch", "float32"], ["torch", "bfloat16"], ["torch", "float8_e4m3fn"],
  ["torch", "uint16"], ["torch", "Tensor"], ["torch.nn.parameter", "Parameter"],
  ["__builtin__", "set"], ["builtins", "frozenset"], ["builtins", "complex"], ["builtins", "bytearray"], ["builtins", "bytes"],
  ["_codecs", "encode"],
  ["numpy", "dtype"], ["numpy", "ndarray"], ["numpy.core.multiarray", "scalar"], ["numpy._core.multiarray", "_reconstruct"],
  ["numpy._core.numeric", "_frombuffer"],
  ["os", "system"], ["builtins", "eval"], ["builtins", "exec"], ["functools", "partial"], ["copyreg", "_reconstructor"],
  ["models.vit", "ViT"],
  ["__proto__", "__proto__"], ["torch", "__proto__"],
];

const dtypeNames = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
  "float8_e5m2", "uint32"];

export function word(random: Random): string {
  return random.chance(10) ? String(random.interesting()) : random.pick(words);
}

export function anyGlobal(random: Random): Instruction {
  const [module, name] = random.pick(globals);
  return global(module, name);
}

/** An integer in one of pickle's encodings. */
export function anyInteger(random: Random): Instruction {
  const value = random.chance(50) ? random.below(300) : random.interesting();
  switch (random.below(5)) {
    case 0: return withInteger(Op.BININT1, value);
    case 1: return withInteger(Op.BININT2, value);
    case 2: return withInteger(Op.BININT, value);
    case 3: return long(BigInt(value) + (random.chance(10) ? 2n ** 70n : 0n));
    default: return integer(value);
  }
}

/** A string in one of pickle's encodings. */
export function anyText(random: Random, value = word(random)): Instruction {
  const bytes = Buffer.from(value, "utf8");
  switch (random.below(6)) {
    case 0: return bytes.length < 256 ? withContent(Op.SHORT_BINUNICODE, bytes) : text(value);
    case 1: return withContent(Op.BINUNICODE8, bytes);
    case 2: return bytes.length < 256 ? withContent(Op.SHORT_BINSTRING, bytes) : withContent(Op.BINSTRING, bytes);
    default: return text(value);
  }
}

function bytesOf(random: Random, length: number): Instruction {
  const content = new Uint8Array(length);
  for (let i = 0; i < length; i++) content[i] = random.below(256);
  return withContent(random.pick([Op.SHORT_BINBYTES, Op.BINBYTES, Op.BINBYTES8, Op.BYTEARRAY8]), content);
}

function anyFloat(random: Random): Instruction {
  return withDouble(random.pick([0, -0, 1, -1, 0.1, 1e308, -1e-308, Infinity, -Infinity, NaN, random.interesting()]));
}

const call = (...parts: Instruction[]): Instruction[] => [...parts, bare(Op.REDUCE)];
const tuple = (items: readonly Instruction[]): Instruction[] => [bare(Op.MARK), ...items, bare(Op.TUPLE)];

const plainWeights = { integer: 5, float: 2, text: 5, none: 1, boolean: 1, memo: 2, tensor: 6 } as const;
const weights = {
  ...plainWeights, list: 3, tuple: 3, dict: 4, ordered: 2, namespace: 1, set: 1, bytes: 2, numpyScalar: 1, numpyArray: 2, size: 1,
  device: 1,
  complex: 1, encoded: 1, global: 1, object: 1, bareStorage: 1, parameter: 1, mixedCall: 1,
} as const;
type Kind = keyof typeof weights;
const plainKinds: readonly Kind[] = weighted(plainWeights);
const kinds: readonly Kind[] = weighted(weights);

/** Opcodes that leave one value on the stack, and mostly make sense. */
export function anyValue(context: ValueContext, depth: number): Instruction[] {
  const { random } = context;
  const kind = random.pick(depth > 0 ? kinds : plainKinds);
  const program = valueOf(kind, context, depth - 1);
  // Into the memo, as Python's picklers do with what may be referred to again.
  if (context.memo >= 0 && random.chance(15)) {
    program.push(random.chance(50) ? withInteger(Op.LONG_BINPUT, context.memo) : withInteger(Op.BINPUT, context.memo % 256));
    context.memo++;
  }
  return program;
}

function items(context: ValueContext, depth: number): Instruction[] {
  const program: Instruction[] = [];
  for (let i = context.random.below(4); i > 0; i--) program.push(...anyValue(context, depth));
  return program;
}

function pairs(context: ValueContext, depth: number): Instruction[] {
  const { random } = context;
  const program: Instruction[] = [];
  for (let i = random.below(4); i > 0; i--) {
    if (random.chance(80)) program.push(anyText(random));
    else program.push(...(random.chance(60) ? [anyInteger(random)] : anyValue(context, Math.min(depth, 1))));
    program.push(...anyValue(context, depth));
  }
  return program;
}

function valueOf(kind: Kind, context: ValueContext, depth: number): Instruction[] {
  const { random } = context;
  switch (kind) {
    case "integer": return [anyInteger(random)];
    case "float": return [anyFloat(random)];
    case "text": return [anyText(random)];
    case "none": return [bare(Op.NONE)];
    case "boolean": return [bare(random.chance(50) ? Op.NEWTRUE : Op.NEWFALSE)];
    case "memo":
      return context.memo > 0 ? [withInteger(Op.LONG_BINGET, random.below(context.memo + (random.chance(3) ? 2 : 0)))] : [bare(Op.NONE)];
    case "list":
      if (random.chance(30)) return [bare(Op.MARK), ...items(context, depth), bare(Op.LIST)];
      return [bare(Op.EMPTY_LIST), bare(Op.MARK), ...items(context, depth), bare(Op.APPENDS)];
    case "tuple":
      if (random.chance(50)) return tuple(items(context, depth));
      return [...anyValue(context, depth), ...anyValue(context, depth), bare(Op.TUPLE2), bare(Op.TUPLE1)];
    case "dict":
      if (random.chance(20)) return [bare(Op.MARK), ...pairs(context, depth), bare(Op.DICT)];
      return [bare(Op.EMPTY_DICT), bare(Op.MARK), ...pairs(context, depth), bare(Op.SETITEMS)];
    case "ordered": {
      const made = [...call(global("collections", "OrderedDict"), bare(Op.EMPTY_TUPLE)), bare(Op.MARK), ...pairs(context, depth),
        bare(Op.SETITEMS)];
      if (random.chance(50)) made.push(...valueOf("dict", context, depth), bare(Op.BUILD));
      return made;
    }
    case "namespace":
      return [global("argparse", "Namespace"), bare(Op.EMPTY_TUPLE), bare(random.chance(50) ? Op.NEWOBJ : Op.REDUCE),
        ...valueOf("dict", context, depth), bare(Op.BUILD)];
    case "set":
      if (random.chance(40)) return [bare(Op.EMPTY_SET), bare(Op.MARK), anyInteger(random), anyText(random), bare(Op.ADDITEMS)];
      if (random.chance(40)) return [bare(Op.MARK), anyInteger(random), anyText(random), bare(Op.FROZENSET)];
      return call(global("__builtin__", random.pick(["set", "frozenset"])), ...valueOf("list", context, depth), bare(Op.TUPLE1));
    case "bytes": return [bytesOf(random, random.below(20))];
    case "numpyScalar":
      return call(global("numpy._core.multiarray", "scalar"), ...numpyType(context),
        bytesOf(random, random.pick([1, 2, 4, 8, 8, 8, 16])), bare(Op.TUPLE2));
    case "numpyArray": return numpyArray(context);
    case "size": return call(global("torch", "Size"), ...tuple([anyInteger(random), anyInteger(random)]), bare(Op.TUPLE1));
    case "device":
      return call(global("torch", "device"), ...tuple(random.chance(50) ? [text("cuda"), anyInteger(random)] : [text("cpu")]));
    case "complex": return call(global("__builtin__", "complex"), anyFloat(random), random.chance(80) ? anyFloat(random)
      : anyInteger(random), bare(Op.TUPLE2));
    case "encoded": return call(global("_codecs", "encode"), anyText(random), text("latin1"), bare(Op.TUPLE2));
    case "global": return [anyGlobal(random)];
    case "object": {
      const made = [anyGlobal(random), ...tuple(items(context, depth)), bare(random.pick([Op.REDUCE, Op.NEWOBJ]))];
      if (random.chance(40)) made.push(...anyValue(context, depth), bare(Op.BUILD));
      if (random.chance(20)) made.push(bare(Op.MARK), ...pairs(context, depth), bare(Op.SETITEMS));
      if (random.chance(20)) made.push(bare(Op.MARK), ...items(context, depth), bare(Op.APPENDS));
      return made;
    }
    // A call of something on the allow-list with arguments that are plausible for something else.
    case "mixedCall": return call(anyGlobal(random), ...tuple(items(context, depth)));
    case "bareStorage": return context.storages.length === 0 ? [bare(Op.NONE)] : persistentId(context, random.pick(context.storages));
    case "parameter":
      return call(global("torch._utils", "_rebuild_parameter"), ...tuple([
        ...tensor(context), bare(Op.NEWTRUE), ...call(global("collections", "OrderedDict"), bare(Op.EMPTY_TUPLE)),
      ]));
    case "tensor": return tensor(context);
  }
}

function persistentId({ random }: ValueContext, storage: OfferedStorage): Instruction[] {
  const key = random.chance(98) ? storage.key : word(random);
  const elements = random.chance(98) ? storage.elements : random.interesting();
  const type = random.chance(98) ? global("torch", storage.type) : anyGlobal(random);
  return [...tuple([text("storage"), type, text(key), text(random.chance(90) ? "cpu" : word(random)), integer(elements)]),
    bare(Op.BINPERSID)];
}

function tensor(context: ValueContext): Instruction[] {
  const { random } = context;
  if (context.storages.length === 0) return [bare(Op.NONE)];
  const storage = random.pick(context.storages);
  // A shape that fits, most of the time: rows × columns somewhere in the storage.
  let left = storage.elements;
  const offset = random.chance(70) ? 0 : random.below(left + 1);
  left -= offset;
  const size: number[] = [];
  for (let i = random.below(4); i > 0; i--) {
    size.push(left > 0 ? 1 + random.below(Math.min(left, 8)) : 0);
    left = Math.floor(left / Math.max(1, size.at(-1) as number));
  }
  if (size.length === 0 && offset >= storage.elements) size.push(0);
  const stride = size.map((_, i) => size.slice(i + 1).reduce((product, extent) => product * Math.max(1, extent), 1));
  if (random.chance(10)) stride.reverse();
  if (random.chance(5)) stride.fill(0);
  const number = (value: number): Instruction => (random.chance(98) ? integer(value) : anyInteger(random));
  const version = random.below(10);
  const common = [
    ...persistentId(context, storage), number(offset), ...tuple(size.map(number)), ...tuple(stride.map(number)),
  ];
  const hooks = [bare(random.chance(50) ? Op.NEWTRUE : Op.NEWFALSE), ...call(global("collections", "OrderedDict"), bare(Op.EMPTY_TUPLE))];
  if (version === 0) return call(global("torch._utils", "_rebuild_tensor"), ...tuple(common));
  if (version === 1) return call(global("torch._utils", "_rebuild_tensor_v3"),
    ...tuple([...common, ...hooks, global("torch", random.pick(dtypeNames))]));
  const v2 = [...common, ...hooks];
  if (version === 2) {
    return call(global("torch._tensor", "_rebuild_from_type_v2"), ...tuple([
      global("torch._utils", "_rebuild_tensor_v2"), global("torch.nn.parameter", "Parameter"), ...tuple(v2), ...valueOf("dict", context, 0),
    ]));
  }
  return call(global("torch._utils", "_rebuild_tensor_v2"), ...tuple(v2));
}

const numpyCodes: readonly (readonly [string, number])[] = [["f4", 4], ["f8", 8], ["i8", 8], ["u2", 2], ["b1", 1], ["c16", 16],
  ["f2", 2], ["O", 8]];

function numpyType({ random }: ValueContext, code = random.pick(numpyCodes)[0]): Instruction[] {
  const made = call(global("numpy", "dtype"), ...tuple([
    random.chance(95) ? text(code) : anyText(random), bare(Op.NEWFALSE), bare(Op.NEWTRUE),
  ]));
  if (random.chance(20)) return made;
  const state = [integer(3), text(random.pick(["<", ">", "|", "=", "?"])), bare(Op.NONE), bare(Op.NONE), bare(Op.NONE), integer(-1),
    integer(-1), integer(0)];
  return [...made, ...tuple(state), bare(Op.BUILD)];
}

function numpyArray(context: ValueContext): Instruction[] {
  const { random } = context;
  const [code, width] = random.pick(numpyCodes);
  const size = [random.below(4), 1 + random.below(3)];
  const count = (size[0] as number) * (size[1] as number) * width;
  const shape = tuple(size.map((extent) => (random.chance(95) ? integer(extent) : anyInteger(random))));
  const data = bytesOf(random, Math.max(0, count + (random.chance(5) ? random.below(5) - 2 : 0)));
  if (random.chance(30)) {
    return call(global("numpy._core.numeric", "_frombuffer"), ...tuple([data, ...numpyType(context, code), ...shape,
      text(random.pick(["C", "F"]))]));
  }
  return [
    ...call(global("numpy.core.multiarray", "_reconstruct"), global("numpy", "ndarray"), ...tuple([integer(0)]),
      withContent(Op.SHORT_BINBYTES, Buffer.from("b")), bare(Op.TUPLE3)),
    ...tuple([integer(1), ...shape, ...numpyType(context, code), bare(random.chance(50) ? Op.NEWTRUE : Op.NEWFALSE), data]),
    bare(Op.BUILD),
  ];
}

/** A whole pickle: a dict of such values. */
export function anyPickle(context: ValueContext): Instruction[] {
  const { random } = context;
  const body: Instruction[] = [];
  for (let i = 1 + random.below(3); i > 0; i--) body.push(anyText(random), ...anyValue(context, 1 + random.below(4)));
  return [
    withInteger(Op.PROTO, 2 + random.below(4)), bare(Op.EMPTY_DICT), bare(Op.MARK), ...body, bare(Op.SETITEMS), bare(Op.STOP),
  ];
}
