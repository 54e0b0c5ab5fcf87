import { Op } from "../../lib/checkpoint/pickle/pickleOpcodes.js";
import {
  allOpcodes, argumentKind, bare, contentOf, long, withContent, withDouble, withInteger, type Instruction,
} from "./pickleProgram.js";
import { anyGlobal, anyInteger, anyText, anyValue, word, type ValueContext } from "./pickleValues.js";
import { weighted, type Random } from "./random.js";

/**
 * What is done to a pickle. The first group keeps the stack in balance, so that what follows is read as well; the second breaks it
 * somewhere. The weights let a good share of the inputs reach their end.
 */
const mutations = weighted({
  argument: 30, replaceValue: 20, insertDropped: 10, insertItem: 8, memoise: 6, global: 8,
  delete: 3, duplicate: 3, swap: 3, splice: 3, opcode: 3, insertOpcode: 4, wrongLength: 2, truncate: 1,
});
type Mutation = (typeof mutations)[number];

/** A changed copy of a pickle's opcodes; `others` are pickles to take parts from. */
export function mutateProgram(
  program: readonly Instruction[], others: readonly (readonly Instruction[])[], context: ValueContext,
): Instruction[] {
  const { random } = context;
  const result = [...program];
  for (let i = random.several(45, 12); i > 0; i--) mutateOnce(result, others, context, random);
  return result;
}

function mutateOnce(program: Instruction[], others: readonly (readonly Instruction[])[], context: ValueContext, random: Random): void {
  const kind = random.pick(mutations);
  const at = find(program, kind, random);
  const instruction = program[at];
  if (instruction === undefined) return;
  switch (kind) {
    case "argument": program[at] = changeArgument(instruction, random); break;
    case "global": program[at] = anyGlobal(random); break;
    case "replaceValue": program.splice(at, 1, ...anyValue(context, random.below(3))); break;
    case "insertDropped": program.splice(at, 0, ...anyValue(context, 1 + random.below(3)), bare(Op.POP)); break;
    case "insertItem": {
      const pair = instruction.opcode === Op.SETITEMS || instruction.opcode === Op.DICT;
      program.splice(at, 0, ...(pair ? [anyText(random)] : []), ...anyValue(context, 1 + random.below(3)));
      break;
    }
    case "memoise":
      program.splice(at, 0, random.chance(50) ? bare(Op.MEMOIZE) : withInteger(Op.LONG_BINPUT, random.chance(80) ? random.below(100)
        : random.interesting()));
      break;
    case "delete": program.splice(at, random.several(30, 10)); break;
    case "duplicate": program.splice(at, 0, ...program.slice(at, at + random.several(60, 20))); break;
    case "swap": {
      const other = 1 + random.below(program.length - 1);
      program[at] = program[other] ?? instruction;
      program[other] = instruction;
      break;
    }
    case "splice": {
      const donor = random.pick(others);
      const from = 1 + random.below(donor.length);
      program.splice(at, random.below(4), ...donor.slice(from, from + random.several(80, 60)));
      break;
    }
    case "opcode": program[at] = { opcode: instruction.opcode, bytes: Uint8Array.of(random.pick(allOpcodes),
      ...instruction.bytes.subarray(1)) }; break;
    case "insertOpcode": program.splice(at, 0, anyInstruction(random)); break;
    case "wrongLength": program[at] = wrongLength(instruction, random); break;
    case "truncate": program.length = at; break;
  }
}

/** Opcodes that push one value of their own. */
const pushes = new Set<number>([
  Op.NONE, Op.NEWTRUE, Op.NEWFALSE, Op.BININT, Op.BININT1, Op.BININT2, Op.LONG1, Op.LONG4, Op.BINFLOAT, Op.SHORT_BINUNICODE,
  Op.BINUNICODE, Op.BINUNICODE8,
  Op.SHORT_BINSTRING, Op.BINSTRING, Op.SHORT_BINBYTES, Op.BINBYTES, Op.BINBYTES8, Op.BYTEARRAY8, Op.EMPTY_TUPLE, Op.EMPTY_LIST,
  Op.EMPTY_DICT,
  Op.BINGET, Op.LONG_BINGET,
]);
const closesMark = new Set<number>([Op.APPENDS, Op.SETITEMS, Op.TUPLE, Op.LIST, Op.DICT, Op.ADDITEMS, Op.FROZENSET]);
const leavesValue = new Set<number>([...pushes, ...closesMark, Op.REDUCE, Op.BUILD, Op.TUPLE1, Op.TUPLE2, Op.TUPLE3, Op.BINPERSID,
  Op.GLOBAL]);

const suits: Partial<Record<Mutation, (instruction: Instruction) => boolean>> = {
  argument: ({ opcode }) => argumentKind(opcode) !== "none" && opcode !== Op.PROTO && opcode !== Op.BINPUT && opcode !== Op.LONG_BINPUT,
  replaceValue: ({ opcode }) => pushes.has(opcode),
  insertItem: ({ opcode }) => closesMark.has(opcode),
  insertDropped: ({ opcode }) => opcode !== Op.PROTO && opcode !== Op.BINPUT && opcode !== Op.LONG_BINPUT,
  global: ({ opcode }) => opcode === Op.GLOBAL,
  wrongLength: ({ opcode }) => argumentKind(opcode).startsWith("sized"),
};

/** A place for a mutation: one that suits it where a few tries find one. The header is left alone, mostly. */
function find(program: readonly Instruction[], kind: Mutation, random: Random): number {
  const suitable = suits[kind];
  const first = random.chance(1) ? 0 : 1;
  let at = first + random.below(program.length - first);
  if (kind === "memoise") {
    for (let tries = 0; tries < 20 && !leavesValue.has(program[at - 1]?.opcode ?? -1); tries++) {
      at = first + random.below(program.length - first);
    }
  } else if (suitable !== undefined) {
    for (let tries = 0; tries < 30 && program[at] !== undefined && !suitable(program[at] as Instruction); tries++) {
      at = first + random.below(program.length - first);
    }
  }
  return at;
}

function changeArgument(instruction: Instruction, random: Random): Instruction {
  const { opcode } = instruction;
  switch (argumentKind(opcode)) {
    case "none": return instruction;
    case "u1": case "u2": case "i4": case "u4": case "u8":
      // Integers may change their encoding; a memo index stays one, close to what others use.
      if (opcode === Op.BINGET || opcode === Op.LONG_BINGET) return withInteger(opcode, random.chance(90) ? random.below(60)
        : random.interesting());
      return opcode === Op.FRAME ? withInteger(opcode, random.interesting()) : anyInteger(random);
    case "double": return withDouble(random.chance(50) ? random.interesting() : random.pick([NaN, Infinity, -0, 0.5]));
    case "lines": return anyGlobal(random);
    case "sized1": case "sized4": case "sized8": return changeContent(instruction, random);
  }
}

function changeContent(instruction: Instruction, random: Random): Instruction {
  const { opcode } = instruction;
  if (opcode === Op.LONG1 || opcode === Op.LONG4) return random.chance(50) ? anyInteger(random) : long(BigInt(random.interesting()) ** 3n);
  const content = Buffer.from(contentOf(instruction));
  if (random.chance(50) || content.length === 0) return anyText(random, word(random));
  content[random.below(content.length)] = random.below(256);
  return withContent(opcode, random.chance(70) ? content : content.subarray(0, random.below(content.length)));
}

function wrongLength(instruction: Instruction, random: Random): Instruction {
  const content = contentOf(instruction);
  return withContent(instruction.opcode, content, random.chance(50) ? content.length + random.below(9) - 4 : random.interesting());
}

function anyInstruction(random: Random): Instruction {
  const opcode = random.pick(allOpcodes);
  const kind = argumentKind(opcode);
  if (kind === "lines") return anyGlobal(random);
  if (kind === "double") return withDouble(random.interesting());
  if (kind.startsWith("sized")) return withContent(opcode, Buffer.from(word(random)));
  return kind === "none" ? bare(opcode) : withInteger(opcode, random.chance(50) ? random.below(50) : random.interesting());
}
