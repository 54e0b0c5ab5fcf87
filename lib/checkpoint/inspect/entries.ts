import { crc32 } from "node:zlib";
import { Tensor } from "../../torch/index.js";
import { AllowedGlobal } from "../pickle/pickleObjects.js";
import { PythonComplex, PythonFloat, PythonGlobal, PythonObject } from "../pythonValues.js";

/** A tensor of a checkpoint and where it lies. */
export interface TensorEntry {
  /** For the model's tensors the state dict's own key, else the path from the root: `optimizer.state.0.exp_avg`. */
  readonly key: string;
  readonly group: "model" | "optimizer" | "other";
  readonly tensor: Tensor;
}

/** What a checkpoint's value holds, in the file's order. */
export interface Contents {
  readonly tensors: TensorEntry[];
  /** Everything else, by path, as text that compares and prints. */
  readonly fields: Map<string, string>;
  /** Classes and functions that were met as placeholders. */
  readonly unknownGlobals: Set<string>;
}

/**
 * Lists the leaves of a checkpoint's value. A container that is referred to twice is listed where it is met first, so the list is never
 * longer than the file.
 *
 * @param model - the state dict, as `recogniseCheckpoint` gives it
 */
export function listContents(root: unknown, model: ReadonlyMap<string, Tensor>): Contents {
  const contents: Contents = { tensors: [], fields: new Map(), unknownGlobals: new Set() };
  const modelTensors = new Set(model.values());
  const seen = new Set<object>();

  const visit = (value: unknown, path: readonly string[]): void => {
    const key = path.join(".");
    if (value instanceof Tensor) {
      contents.tensors.push({ key, group: /^optim/.test(key) ? "optimizer" : "other", tensor: value });
    } else if (value instanceof PythonObject) {
      if (isFirst(value)) visitPlaceholder(value, path);
    } else if (value instanceof PythonGlobal) {
      if (!(value instanceof AllowedGlobal)) contents.unknownGlobals.add(value.toString());
      contents.fields.set(key, value.toString());
    } else if (isContainer(value)) {
      if (isFirst(value)) visitAll(value, path);
    } else {
      contents.fields.set(key, leafText(value));
    }
  };

  const isFirst = (value: object): boolean => {
    const before = seen.size;
    return seen.add(value).size > before;
  };

  const visitAll = (container: object, path: readonly string[]): void => {
    const entries = entriesOf(container);
    if (entries.length === 0) contents.fields.set(path.join("."), Array.isArray(container) ? "[]" : "{}");
    const isModel = entries.some(([name, value]) => value instanceof Tensor && modelTensors.has(value) && model.get(name) === value);
    for (const [name, value] of entries) {
      if (isModel && value instanceof Tensor) contents.tensors.push({ key: name, group: "model", tensor: value });
      else visit(value, [...path, name]);
    }
  };

  const visitPlaceholder = (value: PythonObject, path: readonly string[]): void => {
    contents.unknownGlobals.add(value.global.toString());
    contents.fields.set([...path, "(class)"].join("."), value.global.toString());
    for (const part of [value.args, value.items, value.entries, value.state]) {
      if (isContainer(part) && entriesOf(part).length > 0) visit(part, path);
      else if (part instanceof PythonObject || part instanceof Tensor) visit(part, path);
    }
  };

  visit(root, []);
  return contents;
}

function isContainer(value: unknown): value is object {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || value instanceof Tensor) return false;
  if (value instanceof PythonFloat || value instanceof PythonComplex || value instanceof PythonGlobal) return false;
  // A list of plain values reads best as one: betas, or the indices of an optimiser's parameters.
  return !(Array.isArray(value) && value.length > 0 && value.every((item) => typeof item !== "object" || item === null));
}

function entriesOf(container: object): [string, unknown][] {
  if (container instanceof Map) return Array.from(container, ([key, value]) => [Array.isArray(key) ? leafText(key) : String(key), value]);
  if (container instanceof Set) return Array.from(container, (value, i) => [String(i), value]);
  return Object.entries(container);
}

function leafText(value: unknown): string {
  if (value instanceof PythonFloat) return String(value.value);
  if (value instanceof PythonComplex) return `${value.real}+${value.imaginary}j`;
  if (value instanceof Uint8Array) return `${value.length} bytes (CRC-32 ${crc32(value).toString(16).padStart(8, "0")})`;
  if (Array.isArray(value)) return `[${Array.from(value, leafText).join(", ")}]`;
  if (typeof value === "string") return JSON.stringify(value);
  return value === undefined ? "nothing" : String(value);
}
