/**
 * Parser of operator schemas as c10 prints them, such as `aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor`.
 *
 * Symbolic types lose their prefix (`SymInt` becomes `int`): outside a tracer they hold plain numbers. Named dimensions are printed
 * as `str` by c10 itself.
 */

export interface SchemaType {
  /** Element type without `?`, `[]` and alias annotation: `Tensor`, `int`, `ScalarType`, ... */
  readonly base: string;
  /** Whether the whole value may be `None`. */
  readonly optional: boolean;
  /** `size` is the number in `int[2]`, which also lets one number stand for all elements. */
  readonly list: null | { readonly size: number | null; readonly elementOptional: boolean };
  /** As written, for messages; without alias annotation. */
  readonly text: string;
}

export interface SchemaArgument {
  /** As in the schema. */
  readonly name: string;
  /** As JavaScript callers write it. */
  readonly jsName: string;
  readonly type: SchemaType;
  readonly kwargOnly: boolean;
  readonly hasDefault: boolean;
  /** Source text of the default (`1`, `[0, 0]`, `"none"`, `None`), or null when there is none. */
  readonly default: string | null;
  /** Alias set, `a` of `Tensor(a!)`, or null. */
  readonly alias: string | null;
  /** Whether the operator writes to it. */
  readonly isWrite: boolean;
}

export interface SchemaReturn {
  /** Field name, or null when unnamed. */
  readonly name: string | null;
  readonly type: SchemaType;
  readonly alias: string | null;
  /** Index of the argument that the operator writes to and returns, or -1. */
  readonly aliasOf: number;
}

export interface Schema {
  /** `add` */
  readonly name: string;
  /** `Tensor`; empty for the unnamed overload. */
  readonly overload: string;
  /** `aten::add.Tensor` */
  readonly fullName: string;
  readonly arguments: readonly SchemaArgument[];
  readonly returns: readonly SchemaReturn[];
  /** Whether it ends in `...`, as some TorchScript-only operators do. */
  readonly isVariadic: boolean;
}

/** A schema text that does not follow c10's grammar. */
export class SchemaSyntaxError extends Error {
  override readonly name = "SchemaSyntaxError";
  constructor(text: string, position: number, expected: string) {
    super(`schema ${JSON.stringify(text)}: expected ${expected} at column ${position + 1}, ` +
      `found ${JSON.stringify(text.slice(position, position + 20))}; pass the text that toString(c10::FunctionSchema) gives`);
  }
}

/**
 * JavaScript name of an operator or argument: underscores inside the name are dropped and the next letter is raised, those at either
 * end stay, since they carry meaning (`add_` works in place, `_foo` is internal, `__and__` is an operator).
 *
 * @example camelCase("_foreach_lerp_") // "_foreachLerp_"
 */
export function camelCase(name: string): string {
  return name.replace(/(?<=[^_])_+([^_])/g, (_, next: string) => next.toUpperCase());
}

const symbolic: Readonly<Record<string, string>> = { SymInt: "int", SymFloat: "float", SymBool: "bool" };
const generics = new Set(["Dict", "Future", "RRef", "Await", "Union", "Tuple", "NamedTuple", "Optional", "List"]);

interface Alias {
  readonly set: string;
  readonly isWrite: boolean;
}

interface ParsedType {
  readonly type: SchemaType;
  readonly alias: Alias | null;
}

class Parser {
  private position = 0;

  constructor(private readonly text: string) {}

  parse(): Schema {
    const fullName = this.match(/[\w:]+(?:\.\w+)?/y, "an operator name");
    const qualified = fullName.split("::").pop() as string;
    const dot = qualified.indexOf(".");
    const schemaArguments: SchemaArgument[] = [];
    let kwargOnly = false;
    let isVariadic = false;
    this.list(() => {
      if (this.accept("...")) isVariadic = true;
      else if (this.accept("*")) kwargOnly = true;
      else schemaArguments.push(this.argument(kwargOnly));
    });
    this.expect("->");
    const returns: SchemaReturn[] = [];
    const parseReturn = (): void => {
      if (this.accept("...")) isVariadic = true;
      else returns.push(this.returnValue(schemaArguments));
    };
    if (this.peek("(")) this.list(parseReturn);
    else parseReturn();
    this.skipSpace();
    if (this.position < this.text.length) this.fail("the end");
    return {
      name: dot < 0 ? qualified : qualified.slice(0, dot),
      overload: dot < 0 ? "" : qualified.slice(dot + 1),
      fullName,
      arguments: schemaArguments,
      returns,
      isVariadic,
    };
  }

  private argument(kwargOnly: boolean): SchemaArgument {
    const { type, alias } = this.type();
    const name = this.match(/\w+/y, "an argument name");
    const value = this.accept("=") ? this.defaultText() : null;
    return {
      name, jsName: camelCase(name), type, kwargOnly, hasDefault: value !== null, default: value,
      alias: alias?.set ?? null, isWrite: alias?.isWrite ?? false,
    };
  }

  private returnValue(schemaArguments: readonly SchemaArgument[]): SchemaReturn {
    const { type, alias } = this.type();
    this.skipSpace();
    const name = /\w/.test(this.text[this.position] ?? "") ? this.match(/\w+/y, "a field name") : null;
    const aliasOf = alias?.isWrite
      ? schemaArguments.findIndex((argument) => argument.isWrite && argument.alias === alias.set)
      : -1;
    return { name, type, alias: alias?.set ?? null, aliasOf };
  }

  /** A type with its suffixes: `Tensor(a!)[]`, `int[2]?`, `Tensor?[]`, `Dict(str, int)`, `(int, int)[]`. */
  private type(): ParsedType {
    this.skipSpace();
    const start = this.position;
    let base: string;
    if (this.peek("(")) {
      this.list(() => this.namedType());
      base = this.text.slice(start, this.position);
    } else {
      const word = this.match(/[\w.]+/y, "a type");
      base = symbolic[word] ?? word;
      if (generics.has(word) && this.text[this.position] === "(") {
        this.list(() => this.namedType());
        base = this.text.slice(start, this.position);
      } else if (generics.has(word) && this.text[this.position] === "[") {
        this.match(/\[[^\]]*\]/y, "a type argument");
        base = this.text.slice(start, this.position);
      }
    }
    let text = base;
    let alias: Alias | null = null;
    let optional = false;
    let list: SchemaType["list"] = null;
    for (;;) {
      const next = this.text[this.position];
      if (next === "?") {
        this.position++;
        text += "?";
        optional = true;
      } else if (next === "[") {
        const size = this.match(/\[\d*\]/y, "a list size").slice(1, -1);
        if (list !== null) {
          base = text; // a list of lists: kept whole, so that it equals no plain type
          optional = false;
        }
        text += `[${size}]`;
        list = { size: size === "" ? null : Number(size), elementOptional: optional };
        optional = false;
      } else if (next === "(") {
        alias = this.alias();
      } else {
        return { type: { base, optional, list, text }, alias };
      }
    }
  }

  /** An element of a tuple or generic type, which may carry a field name. */
  private namedType(): void {
    this.type();
    this.skipSpace();
    if (/\w/.test(this.text[this.position] ?? "")) this.match(/\w+/y, "a field name");
  }

  /** `(a)`, `(a!)`, `(a -> *)`, `(a|b)`, `(*)`. */
  private alias(): Alias {
    const inside = this.match(/\([^()]*\)/y, "an alias annotation").slice(1, -1);
    const before = (inside.split("->")[0] as string).trim();
    return { set: before.replace("!", ""), isWrite: before.includes("!") };
  }

  private defaultText(): string {
    this.skipSpace();
    return this.match(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[^\]]*\]|[^\s,()]+/y, "a default value");
  }

  /** Comma-separated items in parentheses. */
  private list(item: () => void): void {
    this.expect("(");
    if (this.accept(")")) return;
    do item(); while (this.accept(","));
    this.expect(")");
  }

  private skipSpace(): void {
    while (this.text[this.position] === " ") this.position++;
  }

  private peek(token: string): boolean {
    this.skipSpace();
    return this.text.startsWith(token, this.position);
  }

  private accept(token: string): boolean {
    if (!this.peek(token)) return false;
    this.position += token.length;
    return true;
  }

  private expect(token: string): void {
    if (!this.accept(token)) this.fail(`"${token}"`);
  }

  /** Takes what a sticky expression matches here. */
  private match(pattern: RegExp, expected: string): string {
    this.skipSpace();
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.text);
    if (found === null) this.fail(expected);
    this.position = pattern.lastIndex;
    return found[0];
  }

  private fail(expected: string): never {
    throw new SchemaSyntaxError(this.text, this.position, expected);
  }
}

/**
 * Parses one schema.
 *
 * @throws {SchemaSyntaxError} naming the column at which the text leaves c10's grammar.
 */
export function parseSchema(text: string): Schema {
  return new Parser(text).parse();
}

const supportedBases = new Set([
  "Tensor", "int", "float", "bool", "str", "Scalar", "ScalarType", "Device", "Layout", "MemoryFormat", "Generator",
]);

/** Whether every argument and returned value can cross the boundary to JavaScript. */
export function isSupported(schema: Schema): boolean {
  return !schema.isVariadic &&
    schema.arguments.every(({ type }) => supportedBases.has(type.base)) &&
    schema.returns.every(({ type }) => supportedBases.has(type.base));
}

/**
 * Names of an operator's overloads in the order in which a call should try them: sorted, those on dimension names last, since c10 types
 * these `str[]` and an empty list would fit.
 */
export function orderOverloads(names: readonly string[]): string[] {
  const onNames = (overload: string): boolean => /names?(_|$)|dimname/i.test(overload);
  return [...names].sort((a, b) => Number(onNames(a)) - Number(onNames(b)) || (a < b ? -1 : 1));
}
