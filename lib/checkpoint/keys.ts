import { Tensor } from "../torch/index.js";
import { OrderedDict } from "./pythonValues.js";

/** What `DistributedDataParallel` puts before every key, and so what upstream's checkpoints have. */
export const MODULE_PREFIX = "module.";

/** A checkpoint's value is not a state dict, or its keys do not have the form that was asked for. */
export class StateDictKeyError extends Error {
  override readonly name = "StateDictKeyError";
}

/**
 * The state dict in a checkpoint's value: an `OrderedDict`, a Map, or a plain object (which a state dict becomes that was saved as a
 * plain dict).
 *
 * @param what - how to name the value in errors
 * @throws StateDictKeyError when it is something else, or when a value in it is not a tensor
 */
export function toStateDict(value: unknown, what = "state_dict"): OrderedDict<string, Tensor> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Tensor) {
    throw new StateDictKeyError(
      `${what} is ${value === undefined ? "missing" : "not a dict"}; give a checkpoint whose ${what} maps names to tensors`,
    );
  }
  const entries: Iterable<[unknown, unknown]> = value instanceof Map ? value : Object.entries(value);
  const state = new OrderedDict<string, Tensor>();
  for (const [key, tensor] of entries) {
    if (typeof key !== "string" || !(tensor instanceof Tensor)) {
      throw new StateDictKeyError(`${what} has an entry ${JSON.stringify(String(key))} that is not a tensor; give a dict of tensors`);
    }
    state.set(key, tensor);
  }
  if (value instanceof OrderedDict) state.attributes = value.attributes;
  return state;
}

/** Whether every key starts with `prefix`; false for an empty state. */
export function hasPrefix(state: ReadonlyMap<string, unknown>, prefix = MODULE_PREFIX): boolean {
  return state.size > 0 && [...state.keys()].every((key) => key.startsWith(prefix));
}

/** The same values with `prefix` before every key, in the same order: what upstream's loader expects. */
export function addPrefix<T>(state: ReadonlyMap<string, T>, prefix = MODULE_PREFIX): OrderedDict<string, T> {
  return new OrderedDict([...state].map(([key, value]) => [prefix + key, value]));
}

/** The same values without `prefix`, where every key has it; otherwise the keys as they are. Order is kept. */
export function stripPrefix<T>(state: ReadonlyMap<string, T>, prefix = MODULE_PREFIX): OrderedDict<string, T> {
  return hasPrefix(state, prefix) ? selectPrefix(state, prefix) : new OrderedDict(state);
}

/**
 * The entries whose keys start with `prefix`, without it; the others are left out. `selectPrefix(state, "module.base_encoder.")` is the
 * encoder in a pre-training checkpoint.
 */
export function selectPrefix<T>(state: ReadonlyMap<string, T>, prefix: string): OrderedDict<string, T> {
  return new OrderedDict([...state].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]));
}
