import { CheckpointError, type CheckpointSite } from "../error.js";
import { Op } from "./pickleOpcodes.js";
import { OrderedDict, PythonComplex, PythonFloat, PythonGlobal, PythonObject, PythonTuple, TorchSize } from "../pythonValues.js";
import type { StorageReference, TensorReference } from "../references.js";
import { itemSize, storageClassOf } from "../storageTypes.js";

/** Containers inside containers; beyond it Python's own unpickler gives up too. */
const DEEPEST = 200;
/** Entries per SETITEMS and APPENDS, as Python's pickler does, so that a reader's stack stays small. */
const BATCH = 1000;

/**
 * Pickles a value with protocol 2 and only those opcodes and globals that `torch.load(weights_only=True)` accepts.
 *
 * | JavaScript | Python |
 * | --- | --- |
 * | null, boolean, string | None, bool, str |
 * | integral number, bigint | int (`PythonFloat` makes a float of it; so does -0) |
 * | other number, `PythonFloat` | float |
 * | `PythonComplex` | complex |
 * | Array; `PythonTuple`; `TorchSize` | list; tuple; torch.Size |
 * | plain object, Map | dict; keys of a Map may be strings, numbers, booleans, null |
 * | `OrderedDict` | collections.OrderedDict |
 * | Set | set |
 * | Uint8Array | bytes |
 * | what `tensor` recognises | tensor, or a Parameter |
 *
 * A container that occurs twice is written once and referred to.
 *
 * @param tensor - describes a tensor, or returns null for anything else
 * @throws CheckpointError that gives the path to a value that has no counterpart
 */
export function writePickle(value: unknown, site: CheckpointSite, tensor: (value: object) => TensorReference | null): Buffer {
  const pickler = new Pickler(site, tensor);
  return pickler.run(value);
}

class Pickler {
  #bytes = Buffer.allocUnsafe(64 * 1024);
  #length = 0;
  /** Memo index of strings, globals and containers that have been written. */
  readonly #memo = new Map<unknown, number>();
  readonly #open = new Set<object>();
  readonly #path: string[] = [];

  constructor(private readonly site: CheckpointSite, private readonly tensor: (value: object) => TensorReference | null) {}

  run(value: unknown): Buffer {
    this.#op(Op.PROTO, 2);
    this.#value(value);
    this.#op(Op.STOP);
    return this.#bytes.subarray(0, this.#length);
  }

  #fail(reason: string): never {
    const path = this.#path.length === 0 ? "the value" : this.#path.slice(0, 8).join("/");
    throw new CheckpointError(this.site, null, `cannot write ${path}: ${reason}`);
  }

  #value(value: unknown): void {
    switch (typeof value) {
      case "string": this.#text(value); return;
      case "boolean": this.#op(value ? Op.NEWTRUE : Op.NEWFALSE); return;
      case "number":
        if (Number.isSafeInteger(value) && !Object.is(value, -0)) this.#integer(value);
        else this.#float(value);
        return;
      case "bigint": this.#bigInteger(value); return;
      case "object":
        if (value === null) this.#op(Op.NONE);
        else this.#object(value);
        return;
      default:
        this.#fail(`it is ${value === undefined ? "undefined; use null or leave the key out" : `a ${typeof value}`}`);
    }
  }

  #object(value: object): void {
    if (this.#open.has(value)) this.#fail("it holds itself");
    if (this.#recall(value)) return;
    if (this.#open.size >= DEEPEST) this.#fail(`values are nested more than ${DEEPEST} deep`);
    this.#open.add(value);
    this.#container(value);
    this.#open.delete(value);
  }

  #container(value: object): void {
    const reference = this.tensor(value);
    if (reference !== null) this.#tensorReference(reference);
    else if (value instanceof PythonFloat) return this.#float(value.value); // never memoised: two equal floats are not one object
    else if (value instanceof PythonComplex) this.#call("__builtin__", "complex", () => this.#floats(value.real, value.imaginary));
    else if (value instanceof TorchSize) this.#call("torch", "Size", () => this.#tuple([PythonTuple.fromArray(value)]));
    else if (value instanceof PythonTuple) this.#tuple(value);
    else if (Array.isArray(value)) return this.#list(value);
    else if (value instanceof Uint8Array) this.#byteString(value);
    else if (value instanceof Set) this.#call("__builtin__", "set", () => this.#tuple([[...value]]));
    else if (value instanceof Map) return this.#map(value as Map<unknown, unknown>);
    else if (value instanceof PythonGlobal || value instanceof PythonObject) {
      this.#fail("it stands for a Python object that was not understood when it was read; leave it out");
    } else if (isPlain(value)) return this.#dict(value, Object.entries(value));
    else this.#fail(`it is a ${value.constructor.name}; expected plain values and tensors${hint(value)}`);
    this.#memoise(value);
  }

  // --- Containers. Lists and dicts enter the memo before their contents, as Python does. -----------------------------------

  #list(items: readonly unknown[]): void {
    this.#op(Op.EMPTY_LIST);
    this.#memoise(items);
    for (let start = 0; start < items.length; start += BATCH) {
      this.#op(Op.MARK);
      const end = Math.min(start + BATCH, items.length);
      for (let i = start; i < end; i++) this.#at(String(i), () => this.#value(items[i]));
      this.#op(Op.APPENDS);
    }
  }

  #tuple(items: readonly unknown[]): void {
    if (items.length === 0) return this.#op(Op.EMPTY_TUPLE);
    if (items.length > 3) this.#op(Op.MARK);
    for (let i = 0; i < items.length; i++) this.#at(String(i), () => this.#value(items[i]));
    this.#op([Op.TUPLE1, Op.TUPLE2, Op.TUPLE3][items.length - 1] ?? Op.TUPLE);
  }

  #map(map: Map<unknown, unknown>): void {
    if (!(map instanceof OrderedDict)) return this.#dict(map, [...map]);
    this.#emptyOrderedDict();
    this.#memoise(map);
    this.#setItems([...(map as Map<unknown, unknown>)]);
    const { attributes } = map as OrderedDict<unknown, unknown>;
    if (attributes === null) return;
    this.#at("(attributes)", () => this.#value(attributes));
    this.#op(Op.BUILD);
  }

  #dict(identity: object, entries: readonly (readonly [unknown, unknown])[]): void {
    this.#op(Op.EMPTY_DICT);
    this.#memoise(identity);
    this.#setItems(entries);
  }

  #setItems(entries: readonly (readonly [unknown, unknown])[]): void {
    for (let start = 0; start < entries.length; start += BATCH) {
      this.#op(Op.MARK);
      for (const [key, value] of entries.slice(start, start + BATCH)) {
        this.#at(typeof key === "object" && key !== null ? "(a key)" : String(key), () => {
          if (typeof key === "object" && key !== null && !(key instanceof PythonTuple)) this.#fail("its key is neither text nor a number");
          this.#value(key);
          this.#value(value);
        });
      }
      this.#op(Op.SETITEMS);
    }
  }

  #emptyOrderedDict(): void {
    this.#call("collections", "OrderedDict", () => this.#tuple([]));
  }

  // --- Tensors ------------------------------------------------------------------------------------------------------------

  #tensorReference(tensor: TensorReference): void {
    if (!tensor.isParameter) return this.#rebuildTensor(tensor, tensor.requiresGrad);
    this.#call("torch._utils", "_rebuild_parameter", () => {
      this.#rebuildTensor(tensor, false);
      this.#op(tensor.requiresGrad ? Op.NEWTRUE : Op.NEWFALSE);
      this.#emptyOrderedDict(); // backward hooks
      this.#op(Op.TUPLE3);
    });
  }

  #rebuildTensor(tensor: TensorReference, requiresGrad: boolean): void {
    const storageClass = storageClassOf(tensor.dtype);
    this.#call("torch._utils", storageClass === undefined ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2", () => {
      this.#op(Op.MARK);
      this.#storage(tensor.storage, storageClass, itemSize(tensor.dtype));
      this.#integer(tensor.offset);
      this.#tuple(tensor.size);
      this.#tuple(tensor.stride);
      this.#op(requiresGrad ? Op.NEWTRUE : Op.NEWFALSE);
      this.#emptyOrderedDict(); // backward hooks
      if (storageClass === undefined) this.#global("torch", tensor.dtype);
      this.#op(Op.TUPLE);
    });
  }

  #storage(storage: StorageReference, storageClass: string | undefined, elementBytes: number): void {
    this.#op(Op.MARK);
    this.#text("storage");
    if (storageClass === undefined) this.#global("torch.storage", "UntypedStorage");
    else this.#global("torch", storageClass);
    this.#text(storage.key);
    this.#text(storage.location);
    this.#integer(storageClass === undefined ? storage.byteLength : storage.byteLength / elementBytes);
    this.#op(Op.TUPLE);
    this.#op(Op.BINPERSID);
  }

  // --- Scalars ------------------------------------------------------------------------------------------------------------

  #integer(value: number): void {
    if (value >= 0 && value <= 0xff) return this.#op(Op.BININT1, value);
    if (value >= 0 && value <= 0xffff) {
      const at = this.#reserve(3);
      this.#bytes[at] = Op.BININT2;
      this.#bytes.writeUInt16LE(value, at + 1);
    } else if (value >= -0x80000000 && value <= 0x7fffffff) {
      const at = this.#reserve(5);
      this.#bytes[at] = Op.BININT;
      this.#bytes.writeInt32LE(value, at + 1);
    } else {
      this.#bigInteger(BigInt(value));
    }
  }

  /** Two's complement in as few bytes as hold the sign; LONG1 takes up to 255 of them. */
  #bigInteger(value: bigint): void {
    let length = 1;
    while (BigInt.asIntN(8 * length, value) !== value) length++;
    if (length > 255) this.#fail(`an integer of ${length} bytes; the limit is 255`);
    const at = this.#reserve(2 + length);
    this.#bytes[at] = Op.LONG1;
    this.#bytes[at + 1] = length;
    for (let i = 0; i < length; i++) this.#bytes[at + 2 + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }

  #float(value: number): void {
    const at = this.#reserve(9);
    this.#bytes[at] = Op.BINFLOAT;
    this.#bytes.writeDoubleBE(value, at + 1);
  }

  #floats(real: number, imaginary: number): void {
    this.#float(real);
    this.#float(imaginary);
    this.#op(Op.TUPLE2);
  }

  #text(value: string): void {
    if (this.#recall(value)) return;
    if (/\p{Surrogate}/u.test(value)) this.#fail("a string with half a surrogate pair, which UTF-8 cannot hold");
    const length = Buffer.byteLength(value, "utf8");
    const at = this.#reserve(5 + length);
    this.#bytes[at] = Op.BINUNICODE;
    this.#bytes.writeUInt32LE(length, at + 1);
    this.#bytes.write(value, at + 5, "utf8");
    this.#memoise(value);
  }

  #byteString(value: Uint8Array): void {
    this.#call("_codecs", "encode", () => {
      this.#text(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1"));
      this.#text("latin1");
      this.#op(Op.TUPLE2);
    });
  }

  // --- Opcodes ------------------------------------------------------------------------------------------------------------

  #call(module: string, name: string, writeArguments: () => void): void {
    this.#global(module, name);
    writeArguments();
    this.#op(Op.REDUCE);
  }

  #global(module: string, name: string): void {
    // A key that no string, number or container can equal.
    const key = Symbol.for(`${module} ${name}`);
    if (this.#recall(key)) return;
    const text = `${module}\n${name}\n`;
    const at = this.#reserve(1 + text.length);
    this.#bytes[at] = Op.GLOBAL;
    this.#bytes.write(text, at + 1, "latin1");
    this.#memoise(key);
  }

  /** Writes a reference to what is in the memo already; false when it is not. */
  #recall(key: unknown): boolean {
    const index = this.#memo.get(key);
    if (index === undefined) return false;
    this.#indexed(Op.BINGET, Op.LONG_BINGET, index);
    return true;
  }

  #memoise(key: unknown): void {
    this.#indexed(Op.BINPUT, Op.LONG_BINPUT, this.#memo.size);
    this.#memo.set(key, this.#memo.size);
  }

  #indexed(short: number, long: number, index: number): void {
    if (index <= 0xff) return this.#op(short, index);
    const at = this.#reserve(5);
    this.#bytes[at] = long;
    this.#bytes.writeUInt32LE(index, at + 1);
  }

  #op(opcode: number, operand?: number): void {
    const at = this.#reserve(operand === undefined ? 1 : 2);
    this.#bytes[at] = opcode;
    if (operand !== undefined) this.#bytes[at + 1] = operand;
  }

  #reserve(length: number): number {
    const at = this.#length;
    if (at + length > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, at + length));
      this.#bytes.copy(grown, 0, 0, at);
      this.#bytes = grown;
    }
    this.#length = at + length;
    return at;
  }

  #at(step: string, body: () => void): void {
    this.#path.push(step);
    body();
    this.#path.pop();
  }
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype as object) === null;
}

function hint(value: object): string {
  if (ArrayBuffer.isView(value)) return " (make a tensor of it with torch.tensor)";
  if (value instanceof Date) return " (write its toISOString())";
  return "";
}
