/** TypeScript call signatures of one ATen operator, from the schemas of its overloads. */
import type { Schema, SchemaArgument, SchemaReturn, SchemaType } from "../../lib/torch/schema.js";

/** One property of the object that may end a call. */
interface Option {
  readonly name: string;
  readonly type: string;
  readonly required: boolean;
}

/** What one overload looks like to a TypeScript caller. */
export interface Signature {
  readonly schema: Schema;
  readonly required: readonly Parameter[];
  /** Positional parameters that have a default; callers may name them in the options instead. */
  readonly defaulted: readonly Parameter[];
  /** Options that can only be given by name. */
  readonly hasNamedOnly: boolean;
  readonly hasRequiredOption: boolean;
  /** Body of the options' object type, `alpha?: Scalar; out?: Tensor`; empty when there are none. */
  readonly options: string;
  readonly returns: string;
}

interface Parameter {
  readonly name: string;
  readonly type: string;
}

const scalarTypes: Readonly<Record<string, string>> = {
  Tensor: "Tensor", int: "Int", float: "number", bool: "boolean", str: "string", Scalar: "Scalar", ScalarType: "DType",
  Device: "string", Layout: "Layout", MemoryFormat: "MemoryFormat", Generator: "Generator",
};

/** JavaScript's reserved words, which may not name a parameter or a constant. */
export const reservedWords = new Set((
  "arguments await break case catch class const continue debugger default delete do else enum eval export extends false finally for " +
  "function if implements import in instanceof interface let new null package private protected public return static super switch " +
  "this throw true try typeof var void while with yield"
).split(" "));

/** Type of an argument's value. */
export function argumentType(type: SchemaType): string {
  const base = scalarTypes[type.base] as string;
  let text = base;
  if (type.list !== null) {
    const many = type.list.elementOptional ? `readonly (${base} | null)[]` : `readonly ${base}[]`;
    const oneForAll = type.list.size !== null && type.base !== "bool" && type.base !== "Tensor";
    text = base === "Int" ? "Ints" : many;
    if (oneForAll) text = base === "Int" ? "IntOrInts" : `${base} | ${many}`;
  }
  return type.optional ? `${text} | null` : text;
}

function returnedType(type: SchemaType): string {
  const base = type.base === "int" ? "number" : scalarTypes[type.base] as string;
  const text = type.list === null ? base : `${base}[]`;
  return type.optional ? `${text} | null` : text;
}

/** Type of what a call returns: nothing, one value, or a tuple labelled as the schema names its fields. */
export function returnsType(returns: readonly SchemaReturn[]): string {
  if (returns.length === 0) return "void";
  if (returns.length === 1) return returnedType((returns[0] as SchemaReturn).type);
  const labelled = returns.every(({ name }) => name !== null);
  return `readonly [${returns.map(({ name, type }) => (labelled ? `${name}: ` : "") + returnedType(type)).join(", ")}]`;
}

/** Whether an argument receives a result: `out=`, or its like in operators with several. */
export function isOut(argument: SchemaArgument): boolean {
  return argument.kwargOnly && argument.isWrite;
}

/** Equal for an overload and the variant of it that writes into given tensors. */
function withoutOut(schema: Schema): string {
  return schema.arguments.filter((argument) => !isOut(argument))
    .map(({ name, type, default: value }) => `${type.text} ${name}=${value}`).join(", ");
}

function signatureOf(schema: Schema, outs: readonly SchemaArgument[]): Signature {
  const positional = schema.arguments.filter(({ kwargOnly }) => !kwargOnly);
  const namedOnly = schema.arguments.filter(({ kwargOnly }) => kwargOnly);
  const defaulted = positional.filter(({ hasDefault }) => hasDefault);
  const toOption = (argument: SchemaArgument, required: boolean): Option =>
    ({ name: argument.jsName, type: argumentType(argument.type), required });
  const options = [
    ...defaulted.map((argument) => toOption(argument, false)),
    ...namedOnly.map((argument) => toOption(argument, !argument.hasDefault)),
    ...outs.map((argument) => toOption(argument, false)),
  ];
  const toParameter = ({ jsName, type }: SchemaArgument): Parameter =>
    ({ name: reservedWords.has(jsName) ? `${jsName}_` : jsName, type: argumentType(type) });
  return {
    schema,
    required: positional.filter(({ hasDefault }) => !hasDefault).map(toParameter),
    defaulted: defaulted.map(toParameter),
    hasNamedOnly: options.length > defaulted.length,
    hasRequiredOption: options.some(({ required }) => required),
    options: options.map(({ name, type, required }) => `${name}${required ? "" : "?"}: ${type}`).join("; "),
    returns: returnsType(schema.returns),
  };
}

/**
 * Signatures of the overloads of one operator. A variant that writes into given tensors shares the signature of the overload that
 * allocates them, where the two differ in nothing else.
 */
export function signaturesOf(overloads: readonly Schema[]): Signature[] {
  const outs = new Map<Schema, readonly SchemaArgument[]>();
  const absorbed = new Set<Schema>();
  for (const variant of overloads) {
    const written = variant.arguments.filter(isOut);
    if (written.length === 0) continue;
    const shape = withoutOut(variant);
    const allocating = overloads.find((schema) =>
      !schema.arguments.some(isOut) && !outs.has(schema) && withoutOut(schema) === shape &&
      schema.returns.length === written.length && schema.returns.every(({ type }) => type.text === "Tensor"));
    if (allocating === undefined) continue;
    outs.set(allocating, written);
    absorbed.add(variant);
  }
  return overloads.filter((schema) => !absorbed.has(schema)).map((schema) => signatureOf(schema, outs.get(schema) ?? []));
}

/**
 * Call signatures of an overload, one for each number of defaulted parameters given by position; the rest go by name.
 *
 * @param optionsType name or body of the options' type
 * @param returns type returned, when not the schema's own (`this` for a method that works in place)
 */
export function callSignatures(signature: Signature, optionsType: string, returns = signature.returns): string[] {
  const { required, defaulted } = signature;
  const calls: string[] = [];
  for (let given = 0; given <= defaulted.length; given++) {
    const parameters = [...required, ...defaulted.slice(0, given)].map(({ name, type }) => `${name}: ${type}`);
    if (given < defaulted.length || signature.hasNamedOnly) {
      parameters.push(`options${signature.hasRequiredOption ? "" : "?"}: ${optionsType}`);
    }
    calls.push(`(${parameters.join(", ")}): ${returns}`);
  }
  return calls;
}
