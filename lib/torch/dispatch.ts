import { native } from "../native.js";
import { nearestNames } from "../nearestNames.js";
import { beginArguments, callEncoded, codecFor, encodeDefault, encodeTensor, isComplex, type Codec } from "./encode.js";
import { TorchError } from "./errors.js";
import { Generator } from "./random.js";
import { camelCase, orderOverloads, parseSchema, type Schema, type SchemaArgument } from "./schema.js";
import { Tensor } from "./tensor.js";

/** A call of an operator: arguments in the schema's order, then perhaps a plain object with arguments by name. */
export type OperatorFunction = (...args: unknown[]) => unknown;

type Keywords = Readonly<Record<string, unknown>>;

interface BoundArgument extends SchemaArgument {
  readonly codec: Codec;
  /** Whether it takes a tensor, not a list of them. */
  readonly isTensor: boolean;
}

/** What a call gives for the argument at `index`: by its place among the first `count`, else by name; undefined where it gives nothing. */
function argumentValue(
  argument: SchemaArgument, index: number, args: readonly unknown[], count: number, keywords: Keywords | undefined,
): unknown {
  if (index < count) return args[index];
  return keywords === undefined ? undefined : keywords[argument.jsName];
}

/** One overload: its arguments are checked and written by the schema's types, then libtorch is called. */
class Overload {
  private readonly positional: number;
  private readonly aliasOf: number;

  private constructor(
    readonly schema: Schema,
    private readonly id: number,
    private readonly declared: readonly BoundArgument[],
  ) {
    const firstKeyword = schema.arguments.findIndex((argument) => argument.kwargOnly);
    this.positional = firstKeyword < 0 ? schema.arguments.length : firstKeyword;
    const only = schema.returns.length === 1 ? schema.returns[0] : undefined;
    this.aliasOf = only?.aliasOf ?? -1;
  }

  /** The overload by its full name, or null when it takes something that has no JavaScript form. */
  static resolve(name: string, overload: string): Overload | null {
    const found = native.resolve(`aten::${name}`, overload);
    if (found === null) return null;
    const schema = parseSchema(found.schema);
    const bound: BoundArgument[] = [];
    for (const argument of schema.arguments) {
      const codec = codecFor(argument.type);
      const isTensor = argument.type.base === "Tensor" && argument.type.list === null;
      if (codec) bound.push({ ...argument, codec, isTensor });
      else if (argument.hasDefault) bound.push({ ...argument, codec: nothing, isTensor });
      else return null;
    }
    return new Overload(schema, found.id, bound);
  }

  /**
   * What keeps the arguments from fitting, and how many fitted before it; null when they fit. A list that is empty fits any list type, so
   * the first overload in order wins.
   */
  misfit(args: readonly unknown[], count: number, keywords: Keywords | undefined): { at: number; reason: string } | null {
    if (count > this.positional) {
      return { at: this.positional, reason: `takes ${this.positional} positional arguments, got ${count}` };
    }
    if (keywords) {
      for (const name of Object.keys(keywords)) {
        const index = this.declared.findIndex((argument) => argument.jsName === name);
        if (index < 0) return { at: 0, reason: `has no argument '${name}'` };
        if (index < count) return { at: index, reason: `got argument '${name}' twice` };
      }
    }
    for (const [i, argument] of this.declared.entries()) {
      const value = argumentValue(argument, i, args, count, keywords);
      if (value === undefined) {
        if (!argument.hasDefault) return { at: i, reason: `needs argument '${argument.jsName}' (${argument.type.text})` };
      } else if (!argument.codec.accepts(value)) {
        return { at: i, reason: `argument '${argument.jsName}' must be ${argument.type.text}, got ${describe(value)}` };
      }
    }
    return null;
  }

  /** Calls libtorch with arguments that fit. */
  invoke(args: readonly unknown[], count: number, keywords: Keywords | undefined): unknown {
    const declared = this.declared;
    const name = this.schema.name;
    const given = keywords === undefined ? count : declared.length;
    beginArguments();
    for (let i = 0; i < given; i++) {
      const argument = declared[i] as BoundArgument;
      const value = argumentValue(argument, i, args, count, keywords);
      if (value === undefined) encodeDefault();
      else if (argument.isTensor && value instanceof Tensor) encodeTensor(value, name); // most arguments: no search for the codec's code
      else argument.codec.encode(value, name);
    }
    let result: number | unknown[];
    try {
      result = callEncoded(this.id, given);
    } catch (error) {
      // In a backward pass inside the operator anything can have been thrown.
      const message = (error as Partial<Error> | null)?.message ?? String(error);
      throw new TorchError(`${this.schema.fullName}: ${message}\n  called as ${this.describeCall(args, count, keywords)}`, { cause: error });
    }
    if (this.aliasOf >= 0) {
      return argumentValue(declared[this.aliasOf] as BoundArgument, this.aliasOf, args, count, keywords);
    }
    if (typeof result === "number") return result < 0 ? null : new Tensor(result);
    return this.unpack(result, args, count, keywords);
  }

  private unpack(results: readonly unknown[], args: readonly unknown[], count: number, keywords: Keywords | undefined): unknown {
    const values = this.schema.returns.map(({ type, aliasOf }, i) => {
      if (aliasOf >= 0) return argumentValue(this.declared[aliasOf] as BoundArgument, aliasOf, args, count, keywords);
      if (type.base !== "Tensor") return results[i];
      const wrap = (slot: unknown): Tensor | null => (slot === null || (slot as number) < 0 ? null : new Tensor(slot as number));
      return type.list ? (results[i] as unknown[]).map(wrap) : wrap(results[i]);
    });
    if (values.length === 0) return undefined;
    return values.length === 1 ? values[0] : values;
  }

  private describeCall(args: readonly unknown[], count: number, keywords: Keywords | undefined): string {
    const parts: string[] = [];
    for (const [i, argument] of this.declared.entries()) {
      const value = argumentValue(argument, i, args, count, keywords);
      if (value !== undefined) parts.push(`${argument.jsName}: ${describe(value)}`);
    }
    return `${camelCase(this.schema.name)}(${parts.join(", ")})`;
  }
}

const nothing: Codec = { accepts: () => false, encode: encodeDefault };

/** A short account of a value for messages: `float32[2, 3]`, `"abc"`, `[1, 2]`. */
function describe(value: unknown): string {
  if (value instanceof Tensor) return value.disposed ? "a disposed tensor" : `${value.dtype}[${value.shape.join(", ")}]`;
  if (Array.isArray(value)) {
    const shown = value.slice(0, 4).map(describe);
    return `[${shown.join(", ")}${value.length > 4 ? `, ... ${value.length} in all` : ""}]`;
  }
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "object" && value !== null) return value.constructor?.name === "Object" ? JSON.stringify(value) : String(value.constructor?.name);
  return String(value);
}

/** A number for each kind of argument, so that a call's kinds make a key: calls of the same kinds take the same overload. */
function kindOf(value: unknown): number {
  switch (typeof value) {
    case "object":
      if (value instanceof Tensor) return 1;
      if (value === null) return 2;
      return Array.isArray(value) ? kindOfArray(value) : 0;
    case "number":
      return Number.isSafeInteger(value) ? 3 : 4;
    case "boolean":
      return 5;
    case "undefined":
      return 6;
    default:
      return 0; // strings and the rest are told apart by their content
  }
}

function kindOfArray(values: readonly unknown[]): number {
  const kind = kindOf(values[0]);
  if (kind !== 1 && kind !== 3) return 0;
  for (let i = 1; i < values.length; i++) if (kindOf(values[i]) !== kind) return 0;
  return kind === 1 ? 7 : 8;
}

function isKeywords(value: unknown): value is Keywords {
  if (typeof value !== "object" || value === null || value instanceof Tensor || Array.isArray(value)) return false;
  return !(value instanceof Generator) && !ArrayBuffer.isView(value) && !isComplex(value);
}

class Operator {
  private readonly overloads: readonly Overload[];
  private readonly byKinds = new Map<number, Overload>();
  // The last of them: most operators are always called alike.
  private lastKinds = 0;
  private lastOverload: Overload | null = null;

  constructor(private readonly name: string) {
    const names = overloadTable()[name];
    if (!names) throw new TypeError(unknownOperator(name));
    this.overloads = orderOverloads(names).map((overload) => Overload.resolve(name, overload)).filter((overload) => overload !== null);
    if (this.overloads.length === 0) throw new TypeError(`operator '${name}' takes or returns types that have no JavaScript form`);
  }

  call(args: readonly unknown[]): unknown {
    let count = args.length;
    let keywords: Keywords | undefined;
    if (count > 0) {
      const last = args[count - 1];
      if (!(last instanceof Tensor) && isKeywords(last)) {
        keywords = last;
        count--;
      }
    }
    if (keywords === undefined && count <= 8) {
      let key = 1;
      for (let i = 0; i < count; i++) {
        const kind = kindOf(args[i]);
        if (kind === 0) {
          key = 0;
          break;
        }
        key = key * 16 + kind;
      }
      if (key !== 0) {
        if (key !== this.lastKinds) {
          this.lastOverload = this.ofKinds(key, args, count);
          this.lastKinds = key;
        }
        return this.lastOverload!.invoke(args, count, undefined);
      }
    }
    return this.select(args, count, keywords).invoke(args, count, keywords);
  }

  private ofKinds(key: number, args: readonly unknown[], count: number): Overload {
    let overload = this.byKinds.get(key);
    if (overload === undefined) this.byKinds.set(key, (overload = this.select(args, count, undefined)));
    return overload;
  }

  private select(args: readonly unknown[], count: number, keywords: Keywords | undefined): Overload {
    let nearest: { at: number; reason: string; overload: Overload } | undefined;
    for (const overload of this.overloads) {
      const misfit = overload.misfit(args, count, keywords);
      if (misfit === null) return overload;
      if (!nearest || misfit.at > nearest.at) nearest = { ...misfit, overload };
    }
    const { reason, overload } = nearest as { reason: string; overload: Overload };
    const others = this.overloads.length > 1 ? ` (nearest of ${this.overloads.length} overloads)` : "";
    throw new TypeError(`${camelCase(this.name)}: ${reason}\n  schema ${signature(overload.schema)}${others}`);
  }
}

function signature({ fullName, arguments: declared }: Schema): string {
  let starred = false;
  const parts = declared.map(({ type, name, default: value, kwargOnly }) => {
    const star = kwargOnly && !starred ? "*, " : "";
    starred ||= kwargOnly;
    return `${star}${type.text} ${name}${value === null ? "" : `=${value}`}`;
  });
  return `${fullName}(${parts.join(", ")})`;
}

let table: Readonly<Record<string, readonly string[]>> | undefined;

function overloadTable(): Readonly<Record<string, readonly string[]>> {
  return (table ??= Object.assign(Object.create(null) as object, native.overloads()));
}

function unknownOperator(name: string): string {
  const nearest = nearestNames(camelCase(name), Object.keys(overloadTable()).map(camelCase), 4);
  return `libtorch has no operator '${name}'; the nearest names are ${nearest.join(", ")}`;
}

/** Sees a call of an operator from TypeScript, once it is done. */
export type OperatorObserver = (name: string, args: readonly unknown[], result: unknown) => void;

let observer: OperatorObserver | null = null;

/**
 * Shows an observer every operator that is called while `fn` runs, by its ATen name; not those that the observer calls itself, nor those that
 * libtorch calls inside another or in backward.
 *
 * @example torch.observeOperators((name, _, result) => console.log(name, result), () => model.forward(images));
 */
export function observeOperators<T>(observe: OperatorObserver, fn: () => T): T {
  const outer = observer;
  observer = (...call) => {
    const own = observer;
    observer = null;
    try {
      observe(...call);
    } finally {
      observer = own;
    }
  };
  try {
    return fn();
  } finally {
    observer = outer;
  }
}

/** Shows the observer, where there is one, what is computed by no operator of libtorch's. Internal. */
export function showObserver(...call: Parameters<OperatorObserver>): void {
  observer?.(...call);
}

/** The operator of an ATen name (`layer_norm`) as a function; it is looked up at the first call. */
export function bind(name: string): OperatorFunction {
  let operator: Operator | undefined;
  return (...args) => {
    const result = (operator ??= new Operator(name)).call(args);
    if (observer !== null) observer(name, args, result);
    return result;
  };
}

/**
 * An operator by its name, with every overload (`"add"`, `"layer_norm"` or `"layerNorm"`) or with one (`"add.Scalar"`).
 *
 * @throws TypeError that lists the nearest names when there is no such operator.
 */
export function op(name: string): OperatorFunction {
  const [, given, overload] = /^(?:aten::)?(\w+)(?:\.(\w+))?$/.exec(name) ?? [undefined, name, undefined];
  const known = given as string;
  const base = overloadTable()[known] ? known : (Object.keys(overloadTable()).find((candidate) => camelCase(candidate) === known) ?? known);
  if (overload === undefined) {
    const operator = new Operator(base);
    return (...args) => operator.call(args);
  }
  const names = overloadTable()[base];
  if (!names) throw new TypeError(unknownOperator(base));
  const exact = names.includes(overload) ? Overload.resolve(base, overload) : null;
  if (!exact) throw new TypeError(`operator '${base}' has no overload '${overload}'; it has ${names.map((each) => each || "(unnamed)").join(", ")}`);
  return (...args) => {
    const last = args.at(-1);
    const keywords = isKeywords(last) ? last : undefined;
    const count = keywords ? args.length - 1 : args.length;
    const misfit = exact.misfit(args, count, keywords);
    if (misfit) throw new TypeError(`${camelCase(base)}: ${misfit.reason}\n  schema ${signature(exact.schema)}`);
    return exact.invoke(args, count, keywords);
  };
}
