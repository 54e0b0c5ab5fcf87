import { CheckpointError, type CheckpointSite } from "../error.js";
import type { CheckpointLimits, MemoryBudget } from "../limits.js";
import { PythonFloat, PythonGlobal, PythonObject } from "../pythonValues.js";

/** What a constructor or `__setstate__` may use of the running unpickler: its site for errors, its limits, its budget. */
export interface PickleContext {
  readonly limits: CheckpointLimits;
  /** Throws `CheckpointError` at the current opcode. */
  fail(reason: string): never;
  /** Counts memory before it is taken. */
  charge(bytes: number, what: string): void;
  /** Counts a number that becomes a key against `limits.sparseNumbers`. */
  countNumber(key: number | bigint): void;
}

/** A class or function on the allow-list. `call` builds plain data from checked arguments; it never runs what a file names. */
export class AllowedGlobal extends PythonGlobal {
  constructor(module: string, qualifiedName: string, readonly call: (args: readonly unknown[], context: PickleContext) => unknown) {
    super(module, qualifiedName);
  }
}

/** An object that takes a state with BUILD. */
export interface Stateful {
  setState(state: unknown, context: PickleContext): void;
}

export function isStateful(value: unknown): value is Stateful {
  return typeof (value as Partial<Stateful> | null)?.setState === "function";
}

/** A Python dict while unpickling; what it becomes in JavaScript depends on its final keys. */
export class PickleDict implements Stateful {
  readonly entries = new Map<unknown, unknown>();
  /** Attributes set on an OrderedDict object; null on plain dicts and where there are none. */
  attributes: PickleDict | null = null;

  constructor(readonly ordered: boolean) {}

  setState(state: unknown, context: PickleContext): void {
    if (!this.ordered) context.fail("BUILD on a plain dict; Python's own pickler never does that");
    if (!(state instanceof PickleDict)) context.fail("the state of an OrderedDict is not a dict");
    this.attributes = state;
  }
}

/** An `argparse.Namespace` while unpickling. */
export class PickleNamespace implements Stateful {
  fields: PickleDict | null = null;

  setState(state: unknown, context: PickleContext): void {
    if (!(state instanceof PickleDict)) context.fail("the state of an argparse.Namespace is not a dict");
    this.fields = state;
  }
}

/** A dict's key or a set's item: one of Python's hashable plain values. Throws `CheckpointError` for any other. */
export function keyOf(key: unknown, context: PickleContext): unknown {
  switch (typeof key) {
    case "string": case "boolean":
      return key;
    case "number": case "bigint":
      context.countNumber(key);
      return key;
    default:
      if (key === null || key instanceof PythonGlobal || isTuple(key)) return key;
      if (key instanceof PythonFloat) return keyOf(key.value, context); // as objects, two equal floats would be two keys
      context.fail(`a dict or set has ${describe(key)} as a key; expected a string, a number, None or a tuple`);
  }
}

/** A Map or Set beyond 2^24 entries is a `RangeError`; nothing of that size is read anyway. */
export function checkCount({ size }: { readonly size: number }, context: PickleContext): void {
  const most = Math.min(context.limits.leaves, 2 ** 23);
  if (size > most) context.fail(`a dict or set has more than ${most} entries`);
}

function isTuple(value: unknown): boolean {
  return Array.isArray(value) && value.constructor !== Array;
}

/** A short name of a value's kind, for messages. */
export function describe(value: unknown): string {
  if (value === null) return "None";
  if (value === undefined) return "nothing";
  if (value instanceof PickleDict) return value.ordered ? "an OrderedDict" : "a dict";
  if (value instanceof PythonGlobal) return `the global ${value.toString()}`;
  if (value instanceof PythonObject) return `a placeholder for ${value.global.toString()}`;
  if (isTuple(value)) return `a tuple of ${(value as unknown[]).length}`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === "string") return "a string";
  if (typeof value === "object") return `a ${value.constructor.name}`;
  return `${typeof value} ${String(value)}`;
}

/** A pickle that ends before its STOP, as one does whose end has not been read yet. */
export class TruncatedPickle extends CheckpointError {
  override readonly name = "CheckpointError";

  constructor(site: CheckpointSite, offset: number, what: string) {
    super(site, offset, `the pickle ends inside ${what}; the file is cut short (copy or download it again)`);
  }
}

export interface PickleOptions {
  readonly site: CheckpointSite;
  readonly limits: CheckpointLimits;
  readonly budget: MemoryBudget;
  /** The allow-list: a class or function by module and name, or undefined. */
  readonly lookup: (module: string, name: string) => PythonGlobal | undefined;
  /** Makes the object that a persistent id stands for (in checkpoints, a storage). */
  readonly persistentLoad: (id: unknown, context: PickleContext) => unknown;
  /** What to do with a global that is not on the allow-list. */
  readonly unknownGlobals: "error" | "placeholder";
  /** Keep floats with integral values as `PythonFloat`, so that writing gives floats again. */
  readonly tagFloats?: boolean;
}
