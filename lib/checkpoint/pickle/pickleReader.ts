import { isUtf8 } from "node:buffer";
import { CheckpointError, printable } from "../error.js";
import { cost } from "../limits.js";
import { Op } from "./pickleOpcodes.js";
import {
  AllowedGlobal, checkCount, describe, isStateful, keyOf, PickleDict, type PickleContext, type PickleOptions, TruncatedPickle,
} from "./pickleObjects.js";
import { PickleMemo } from "./pickleMemo.js";
import { PythonFloat, PythonGlobal, PythonObject, PythonTuple } from "../pythonValues.js";

/** Bytes of a global's module and name: each use of a global looks it up by them, so that long ones cost time again and again. */
const LONGEST_NAME = 1000;

/**
 * Reads one pickle. Nothing is executed: a global must be on the allow-list (`options.lookup`), and only the constructors there make
 * objects. Every size is checked against the limits, the bytes that are left and the memory budget before anything is allocated.
 *
 * The value uses `PickleDict` and the like; `toJavaScript` turns it into plain values once its structure has been checked.
 *
 * @param bytes - holds the pickle at `start`; may hold more behind it
 * @returns the value, and the position behind the STOP opcode
 * @throws CheckpointError; TruncatedPickle where `bytes` ends first
 */
export function readPickle(bytes: Buffer, start: number, options: PickleOptions): { value: unknown; end: number } {
  const machine = new PickleMachine(bytes, start, options);
  return { value: machine.run(), end: machine.position };
}

class PickleMachine implements PickleContext {
  readonly limits;
  position: number;
  #opcodeAt: number;
  #sparseNumbers = 0;
  #stack: unknown[] = [];
  readonly #marks: number[] = [];
  readonly #memo: PickleMemo;

  constructor(private readonly bytes: Buffer, start: number, private readonly options: PickleOptions) {
    this.limits = options.limits;
    this.position = start;
    this.#opcodeAt = start;
    this.#memo = new PickleMemo(this);
  }

  run(): unknown {
    if (this.#byte("its header") !== Op.PROTO) this.fail("this is not a pickle of protocol 2 to 5, so not a PyTorch checkpoint");
    this.position--;
    for (let executed = 0; ; executed++) {
      if (executed >= this.limits.opcodes) this.fail(`the pickle has more than ${this.limits.opcodes} opcodes`);
      this.#opcodeAt = this.position;
      const opcode = this.#byte("its opcodes");
      if (opcode === Op.STOP) break;
      this.#execute(opcode);
    }
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) this.fail("values are left on the stack at the end of the pickle");
    return value;
  }

  fail(reason: string): never {
    throw new CheckpointError(this.options.site, this.#opcodeAt, reason);
  }

  charge(bytes: number, what: string): void {
    this.options.budget.charge(bytes, what, this.options.site, this.#opcodeAt);
  }

  countNumber(key: number | bigint): void {
    if (typeof key === "number" && Number.isInteger(key) && key >= 0 && key < 1_000_000) return;
    if (++this.#sparseNumbers <= this.limits.sparseNumbers) return;
    this.fail(`more than ${this.limits.sparseNumbers} large, negative or broken numbers are keys, which no checkpoint needs`);
  }

  #execute(opcode: number): void {
    switch (opcode) {
      case Op.PROTO: {
        const protocol = this.#byte("PROTO");
        if (protocol < 2 || protocol > 5) this.fail(`pickle protocol ${protocol} is not supported; protocols 2 to 5 are`);
        return;
      }
      case Op.FRAME: {
        const length = this.#size64();
        if (length > this.bytes.length - this.position) throw new TruncatedPickle(this.options.site, this.#opcodeAt, "a frame");
        return;
      }
      case Op.MARK:
        if (this.#marks.length >= this.limits.marks) this.fail(`more than ${this.limits.marks} containers inside each other`);
        this.#marks.push(this.#stack.length);
        return;
      case Op.POP:
        if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
        else this.#pop();
        return;
      case Op.POP_MARK: this.#popMark(); return;
      case Op.DUP: this.#push(this.#top()); return;

      case Op.NONE: this.#push(null); return;
      case Op.NEWTRUE: this.#push(true); return;
      case Op.NEWFALSE: this.#push(false); return;
      case Op.BININT1: this.#push(this.#byte("BININT1")); return;
      case Op.BININT2: this.#push(this.bytes.readUInt16LE(this.#take(2, "BININT2"))); return;
      case Op.BININT: this.#push(this.bytes.readInt32LE(this.#take(4, "BININT"))); return;
      case Op.LONG1: this.#push(this.#integer(this.#byte("LONG1"))); return;
      case Op.LONG4: this.#push(this.#integer(this.#size32())); return;
      case Op.BINFLOAT: this.#push(this.#float()); return;

      case Op.SHORT_BINUNICODE: this.#push(this.#text(this.#byte("SHORT_BINUNICODE"))); return;
      case Op.BINUNICODE: this.#push(this.#text(this.#size32())); return;
      case Op.BINUNICODE8: this.#push(this.#text(this.#size64())); return;
      case Op.SHORT_BINSTRING: this.#push(this.#python2String(this.#byte("SHORT_BINSTRING"))); return;
      case Op.BINSTRING: this.#push(this.#python2String(this.#size32())); return;
      case Op.SHORT_BINBYTES: this.#push(this.#byteString(this.#byte("SHORT_BINBYTES"))); return;
      case Op.BINBYTES: this.#push(this.#byteString(this.#size32())); return;
      case Op.BINBYTES8: case Op.BYTEARRAY8: this.#push(this.#byteString(this.#size64())); return;

      case Op.EMPTY_TUPLE: this.#push(this.#tuple([])); return;
      case Op.TUPLE1: this.#push(this.#tuple(this.#popMany(1))); return;
      case Op.TUPLE2: this.#push(this.#tuple(this.#popMany(2))); return;
      case Op.TUPLE3: this.#push(this.#tuple(this.#popMany(3))); return;
      case Op.TUPLE: this.#push(this.#tuple(this.#popMark())); return;
      case Op.EMPTY_LIST:
        this.charge(cost.list, "a list");
        this.#push([]);
        return;
      case Op.LIST: {
        const items = this.#popMark();
        this.charge(cost.list, "a list");
        this.#push([]);
        this.#append(items);
        return;
      }
      case Op.APPEND: this.#append(this.#popMany(1)); return;
      case Op.APPENDS: this.#append(this.#popMark()); return;
      case Op.EMPTY_DICT: this.#pushDict(); return;
      case Op.DICT: {
        const items = this.#popMark();
        this.#pushDict();
        this.#setItems(items);
        return;
      }
      case Op.SETITEM: this.#setItems(this.#popMany(2)); return;
      case Op.SETITEMS: this.#setItems(this.#popMark()); return;
      case Op.EMPTY_SET:
        this.charge(cost.dict, "a set");
        this.#push(new Set());
        return;
      case Op.ADDITEMS: {
        const items = this.#popMark();
        const target = this.#top();
        if (!(target instanceof Set)) this.fail(`ADDITEMS on ${describe(target)}; only a set takes items`);
        this.#addAll(target, items);
        return;
      }
      case Op.FROZENSET: {
        const items = this.#popMark();
        this.charge(cost.dict, "a set");
        const set = new Set<unknown>();
        this.#addAll(set, items);
        this.#push(set);
        return;
      }

      case Op.BINGET: this.#get(this.#byte("BINGET")); return;
      case Op.LONG_BINGET: this.#get(this.#size32()); return;
      case Op.BINPUT: this.#put(this.#byte("BINPUT")); return;
      case Op.LONG_BINPUT: this.#put(this.#size32()); return;
      case Op.MEMOIZE: this.#put(this.#memo.size); return;

      case Op.GLOBAL: {
        const module = this.#line();
        this.#global(module, this.#line());
        return;
      }
      case Op.STACK_GLOBAL: {
        const [module, name] = this.#popMany(2);
        if (typeof module !== "string" || typeof name !== "string") this.fail("STACK_GLOBAL without two strings");
        this.#global(module, name);
        return;
      }
      case Op.REDUCE: case Op.NEWOBJ: {
        const [callee, args] = this.#popMany(2);
        this.#push(this.#construct(callee, args));
        return;
      }
      case Op.NEWOBJ_EX: {
        const [callee, args, named] = this.#popMany(3);
        if (!(named instanceof PickleDict) || named.entries.size > 0) this.fail("an object made with named arguments is not supported");
        this.#push(this.#construct(callee, args));
        return;
      }
      case Op.BUILD: {
        const state = this.#pop();
        const target = this.#top();
        if (target instanceof PythonObject) target.state = state;
        else if (isStateful(target)) target.setState(state, this);
        else this.fail(`BUILD on ${describe(target)}, which takes no state`);
        return;
      }
      case Op.BINPERSID: this.#push(this.options.persistentLoad(this.#pop(), this)); return;
      default:
        this.fail(`opcode 0x${opcode.toString(16).padStart(2, "0")} is not one that torch.save writes (pickle protocols 2 to 5)`);
    }
  }

  // --- Reading ------------------------------------------------------------------------------------------------------------

  #byte(what: string): number {
    return this.bytes[this.#take(1, what)] as number;
  }

  /** Position of the next `length` bytes, which are taken. */
  #take(length: number, what: string): number {
    const at = this.position;
    if (length > this.bytes.length - at) throw new TruncatedPickle(this.options.site, this.#opcodeAt, what);
    this.position = at + length;
    return at;
  }

  #size32(): number {
    return this.bytes.readUInt32LE(this.#take(4, "a length"));
  }

  #size64(): number {
    const size = this.bytes.readBigUInt64LE(this.#take(8, "a length"));
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`a length of ${size} bytes`);
    return Number(size);
  }

  #span(length: number, what: string): number {
    if (length > this.limits.stringBytes) this.fail(`${what} of ${length} bytes; the limit is ${this.limits.stringBytes}`);
    return this.#take(length, what);
  }

  #line(): string {
    const end = this.bytes.indexOf(0x0a, this.position);
    // Without this bound a file of names without line ends would be searched again and again.
    if (end < 0 && this.bytes.length - this.position < LONGEST_NAME) throw new TruncatedPickle(this.options.site, this.#opcodeAt, "a name");
    if (end < 0 || end - this.position >= LONGEST_NAME) this.fail(`a global's name is longer than ${LONGEST_NAME} bytes`);
    const line = this.bytes.toString("utf8", this.position, end);
    this.position = end + 1;
    return line;
  }

  #float(): unknown {
    const value = this.bytes.readDoubleBE(this.#take(8, "BINFLOAT"));
    this.charge(cost.number, "a float");
    if (!this.options.tagFloats || !Number.isInteger(value)) return value;
    return new PythonFloat(value);
  }

  #integer(length: number): number | bigint {
    if (length > this.limits.integerBytes) this.fail(`an integer of ${length} bytes; the limit is ${this.limits.integerBytes}`);
    const at = this.#take(length, "an integer");
    this.charge(cost.number + 16 + length, "an integer");
    if (length <= 6) return length === 0 ? 0 : this.bytes.readIntLE(at, length);
    // Through hexadecimal digits: shifting byte after byte into a BigInt takes time that grows with the square of the length.
    const digits = Buffer.from(this.bytes.subarray(at, at + length)).reverse().toString("hex");
    const value = BigInt.asIntN(8 * length, BigInt(`0x${digits}`));
    return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }

  #text(length: number): string {
    const at = this.#span(length, "a string");
    const raw = this.bytes.subarray(at, at + length);
    if (!isUtf8(raw)) this.fail("a string that is not UTF-8");
    this.charge(cost.text + 2 * length, "a string");
    return raw.toString("utf8");
  }

  /** A `str` of Python 2 holds text or bytes; nothing but its content tells. */
  #python2String(length: number): string | Uint8Array {
    const at = this.#span(length, "a string");
    const raw = this.bytes.subarray(at, at + length);
    this.charge(cost.bytes + 2 * length, "a string");
    return isUtf8(raw) ? raw.toString("utf8") : Uint8Array.from(raw);
  }

  #byteString(length: number): Uint8Array {
    const at = this.#span(length, "a byte string");
    this.charge(cost.bytes + length, "a byte string");
    return new Uint8Array(this.bytes.subarray(at, at + length));
  }

  // --- Stack and memo -----------------------------------------------------------------------------------------------------

  #push(value: unknown): void {
    if (this.#stack.length >= this.limits.stack) this.fail(`more than ${this.limits.stack} values on the stack`);
    this.#stack.push(value);
  }

  #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  #pop(): unknown {
    if (this.#stack.length <= this.#floor()) this.fail("the stack is empty");
    return this.#stack.pop();
  }

  #popMany(count: number): unknown[] {
    if (this.#stack.length - count < this.#floor()) this.fail("the stack holds too few values");
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.fail("no mark on the stack");
    return this.#stack.splice(mark);
  }

  #top(): unknown {
    if (this.#stack.length <= this.#floor()) this.fail("the stack is empty");
    return this.#stack[this.#stack.length - 1];
  }

  #get(index: number): void {
    this.#push(this.#memo.get(index));
  }

  #put(index: number): void {
    this.#memo.set(index, this.#top());
  }

  // --- Containers and objects ---------------------------------------------------------------------------------------------

  #tuple(items: unknown[]): unknown {
    this.charge(cost.tuple + cost.element * items.length, "a tuple");
    return PythonTuple.fromArray(items);
  }

  #pushDict(): void {
    this.charge(cost.dict, "a dict");
    this.#push(new PickleDict(false));
  }

  #append(items: unknown[]): void {
    const target = this.#top();
    const list = target instanceof PythonObject ? target.items : target;
    if (!Array.isArray(list) || list instanceof PythonTuple) this.fail(`APPEND on ${describe(target)}; only a list takes items`);
    this.charge(cost.element * items.length, "a list");
    for (const item of items) list.push(item);
  }

  #setItems(items: unknown[]): void {
    const target = this.#top();
    const entries = target instanceof PickleDict || target instanceof PythonObject ? target.entries : null;
    if (entries === null) this.fail(`SETITEM on ${describe(target)}; only a dict takes entries`);
    if (items.length % 2 !== 0) this.fail("a dict has a key without a value");
    this.charge(cost.dictEntry * (items.length / 2), "a dict");
    for (let i = 0; i < items.length; i += 2) entries.set(keyOf(items[i], this), items[i + 1]);
    checkCount(entries, this);
  }

  #addAll(set: Set<unknown>, items: unknown[]): void {
    this.charge(cost.dictEntry * items.length, "a set");
    for (const item of items) set.add(keyOf(item, this));
    checkCount(set, this);
  }

  #global(module: string, name: string): void {
    if (module.length + name.length > LONGEST_NAME) this.fail(`a global's name is longer than ${LONGEST_NAME} bytes`);
    const known = this.options.lookup(module, name);
    if (known === undefined && this.options.unknownGlobals === "error") {
      this.fail(
        `the pickle asks for ${printable(`${module}.${name}`)}, which is not among the types that checkpoints need. Nothing was run. ` +
        "If the file is trusted, save it again from Python with plain values only (state_dict() instead of whole objects), or " +
        'read it with unknownGlobals: "placeholder" to keep such objects as inert data',
      );
    }
    this.charge(cost.object + 2 * (module.length + name.length), "a global");
    this.#push(known ?? new PythonGlobal(module, name));
  }

  #construct(callee: unknown, args: unknown): unknown {
    if (!(callee instanceof PythonGlobal)) this.fail(`a call of ${describe(callee)}; only classes and functions can be called`);
    if (!(args instanceof PythonTuple)) this.fail(`${callee.toString()} is called with ${describe(args)} instead of a tuple of arguments`);
    if (callee instanceof AllowedGlobal) return callee.call(args, this);
    if (this.options.unknownGlobals === "error" || this.options.lookup(callee.module, callee.qualifiedName) !== undefined) {
      this.fail(`${callee.toString()} cannot be called`);
    }
    this.charge(cost.dict + cost.list, "an object");
    return new PythonObject(callee, args);
  }
}
