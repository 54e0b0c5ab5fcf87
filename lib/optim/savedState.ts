import { PythonFloat, PythonTuple } from "../checkpoint/pythonValues.js";
import { Tensor } from "../torch/index.js";

/** A saved optimiser state does not fit the optimiser that should load it. */
export class OptimizerStateError extends Error {
  override readonly name = "OptimizerStateError";
}

/** A saved state, taken apart: plain Maps, whatever containers a reader made of Python's. Names are PyTorch's. */
export interface SavedState {
  groups: { params: number[]; options: Map<string, unknown> }[];
  state: Map<number, Map<string, unknown>>;
}

/** An option that one optimiser alone has, and its name: how a state tells whose it is. */
const SIGNATURES = { trust_coefficient: "LARS", nesterov: "SGD", betas: "AdamW" };

/**
 * Takes a saved state apart.
 *
 * @throws OptimizerStateError for anything but the "optimizer" entry of a training checkpoint
 */
export function parseState(saved: unknown): SavedState {
  const groups = [...field(saved, "param_groups").values()].map((value, g) => {
    const group = entries(value, `param_groups[${g}]`);
    const options = new Map([...group].filter(([key]) => key !== "params").map(([key, option]) => [String(key), option]));
    return { params: [...entries(group.get("params"), `param_groups[${g}].params`).values()].map(Number), options };
  });
  const state: SavedState["state"] = new Map();
  for (const [index, values] of field(saved, "state")) {
    state.set(Number(index), new Map([...entries(values, `state[${String(index)}]`)].map(([key, value]) => [String(key), value])));
  }
  return { groups, state };
}

/** The options of a saved state's first group under our names, or an empty object where there are none. */
export function savedOptions(saved: unknown): Record<string, unknown> {
  const [group] = parseState(saved).groups;
  return Object.fromEntries([...(group?.options ?? [])].map(([key, value]) => [camelCase(key), plain(value)]));
}

/**
 * Sorts a group's saved options into those that the optimiser knows, checked against the type of its own and under its own names, and
 * others (of newer versions of PyTorch, or a scheduler's `initial_lr`), which are kept as they are for the next saving.
 *
 * @throws OptimizerStateError where a value is no option of this kind, or the state is another optimiser's
 */
export function sortOptions(own: object, saved: ReadonlyMap<string, unknown>, where: string): { known: object; foreign: Map<string, unknown> } {
  for (const [key, name] of Object.entries(SIGNATURES)) {
    if (!saved.has(key) || camelCase(key) in own) continue;
    throw new OptimizerStateError(
      `the saved state is of ${name} (it has "${key}"), which this optimiser is not; use ${name} (--optimizer ${name.toLowerCase()}), ` +
        "or start without the saved state",
    );
  }
  const known: Record<string, unknown> = {};
  const foreign = new Map<string, unknown>();
  for (const [key, value] of saved) {
    const name = camelCase(key);
    if (name !== "params" && Object.hasOwn(own, name)) {
      known[name] = plain(value);
      if (!sameType((own as Record<string, unknown>)[name], known[name])) {
        throw new OptimizerStateError(`${where}.${key} is ${shown(known[name])}, which is no value of this option; the file is damaged`);
      }
    } else if (!holdsTensor(value)) foreign.set(key, value); // a tensor belongs to the reader, who frees it
  }
  return { known, foreign };
}

/** An option or number as PyTorch would save it: whole numbers are floats there too, and pairs are tuples. */
export function asPython(value: unknown): unknown {
  if (typeof value === "number" && Number.isInteger(value)) return new PythonFloat(value);
  if (Array.isArray(value)) return PythonTuple.fromArray(Array.from(value as unknown[], asPython));
  return value;
}

export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function camelCase(name: string): string {
  return name.replace(/(?<=[a-z0-9])_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Entries of a Map, an array or a plain object, whichever a checkpoint reader made of a Python dict or list. */
function entries(value: unknown, where: string): Map<unknown, unknown> {
  if (value instanceof Map) return value;
  if (Array.isArray(value)) return new Map(value.entries());
  if (typeof value === "object" && value !== null && !(value instanceof Tensor)) return new Map(Object.entries(value));
  throw new OptimizerStateError(`${where} should be a dictionary or list and is ${value === null ? "null" : typeof value}`);
}

function field(value: unknown, key: string): Map<unknown, unknown> {
  const found = entries(value, "the state").get(key);
  if (found === undefined) throw new OptimizerStateError(`the state has no "${key}"; pass the "optimizer" entry of a training checkpoint`);
  return entries(found, key);
}

/** An option as saved: numbers may come as 0-dim tensors or as bigint, tuples as arrays. */
function plain(value: unknown): unknown {
  if (value instanceof Tensor) return value.numel() === 1 ? Number(value.item()) : null;
  if (typeof value === "bigint" || value instanceof PythonFloat) return Number(value);
  if (Array.isArray(value)) return Array.from(value as unknown[], plain);
  return value;
}

/** Whether a value can be what an option is; those that are null by default are switches that nobody has set. */
function sameType(own: unknown, value: unknown): boolean {
  if (Array.isArray(own)) {
    return Array.isArray(value) && own.length === value.length && own.every((each, i) => sameType(each, value[i]));
  }
  const isSwitch = (each: unknown): boolean => each === null || typeof each === "boolean";
  return typeof own === "number" ? typeof value === "number" : isSwitch(own) === isSwitch(value);
}

function holdsTensor(value: unknown): boolean {
  if (value instanceof Tensor) return true;
  if (value instanceof Map || Array.isArray(value)) return [...value.values()].some(holdsTensor);
  return typeof value === "object" && value !== null && Object.values(value).some(holdsTensor);
}

function shown(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
