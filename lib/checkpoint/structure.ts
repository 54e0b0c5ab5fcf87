import { isDType } from "../torch/dtype.js";
import { CheckpointError, type CheckpointSite } from "./error.js";
import { cost, type CheckpointLimits, type MemoryBudget } from "./limits.js";
import { NumpyArray } from "./pickle/numpyObjects.js";
import { PickleDict, PickleNamespace } from "./pickle/pickleObjects.js";
import { OrderedDict, PythonFloat, PythonGlobal, PythonObject, PythonTuple } from "./pythonValues.js";
import { TensorReference, TypedStorage } from "./references.js";

/**
 * Checks the shape of an unpickled value before anyone walks it: no container inside itself, no deeper nesting than
 * `limits.depth`, no more leaves than `limits.leaves` when shared parts are counted each time they are met (a few hundred bytes of
 * pickle can describe 2^63 of them).
 *
 * The walk uses no recursion, so hostile nesting cannot exhaust the stack. A bare storage is charged to the budget here, as the
 * tensor that it becomes: three bytes of pickle name one again.
 */
export function checkStructure(root: unknown, limits: CheckpointLimits, site: CheckpointSite, budget: MemoryBudget): void {
  const finished = new Map<object, Extent>();
  const open = new Set<object>();
  const frames: { container: object; children: unknown[]; next: number; depth: number; leaves: number }[] = [];
  const leaf = (value: unknown): Extent => {
    if (value instanceof TypedStorage) budget.charge(cost.tensor, "a storage", site);
    return oneLeaf;
  };
  // What holds no container and is small is counted each time it is met: a note about each would take more memory than the thing itself.
  const flat = (container: object): Extent | undefined => {
    const items = flatItems(container);
    if (items === null) return undefined;
    for (const item of items) leaf(item);
    return flatSizes[items.length];
  };
  const enter = (container: object): void => {
    if (open.has(container)) throw new CheckpointError(site, null, "a container holds itself; no checkpoint does that");
    if (frames.length >= limits.depth) throw tooDeep();
    open.add(container);
    if (!hasNamedAttributes(container)) throw new CheckpointError(site, null, "an object has an attribute whose name is not a string");
    frames.push({ container, children: childrenOf(container), next: 0, depth: 1, leaves: 0 });
  };
  const tooDeep = (): CheckpointError =>
    new CheckpointError(site, null, `values are nested more than ${limits.depth} deep; real checkpoints stay below 10`);

  if (isContainer(root)) enter(root);
  else leaf(root);
  for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
    if (frame.next < frame.children.length) {
      const child = frame.children[frame.next++];
      const known = isContainer(child) ? finished.get(child) ?? flat(child) : leaf(child);
      if (known === undefined) {
        enter(child as object);
        continue;
      }
      frame.depth = Math.max(frame.depth, known.depth + 1);
      frame.leaves += known.leaves;
      // A shared part is not walked again, so its depth has to be added here.
      if (frames.length + known.depth > limits.depth) throw tooDeep();
      if (frame.leaves > limits.leaves) {
        throw new CheckpointError(
          site, null, `the value has more than ${limits.leaves} leaves once its shared parts are written out; it is damaged or hostile`,
        );
      }
      continue;
    }
    frames.pop();
    open.delete(frame.container);
    const { depth, leaves } = frame;
    finished.set(frame.container, { depth, leaves: leaves + 1 });
    const parent = frames.at(-1);
    if (parent !== undefined) parent.next--; // meet the finished child once more, now as known
  }
}

interface Extent {
  readonly depth: number;
  readonly leaves: number;
}

const oneLeaf: Extent = { depth: 0, leaves: 1 };
const FEW = 8;
const flatSizes: readonly Extent[] = Array.from({ length: FEW + 1 }, (_, items) => ({ depth: 1, leaves: items + 1 }));

/** The items of a container that has at most `FEW`, none of them a container; else null. */
function flatItems(container: object): readonly unknown[] | null {
  let items: readonly unknown[];
  if (Array.isArray(container)) items = container;
  else if (container instanceof PickleDict && container.attributes === null && container.entries.size <= FEW) {
    for (const key of container.entries.keys()) if (isContainer(key)) return null;
    items = container.entries.size === 0 ? [] : [...container.entries.values()];
  } else if (container instanceof Set && container.size <= FEW) items = [...container];
  else return null;
  return items.length > FEW || items.some(isContainer) ? null : items;
}

/** The names of attributes become keys of an object: turning nested tuples into such could take for ever. */
function hasNamedAttributes(container: object): boolean {
  const attributes = container instanceof PickleNamespace ? container.fields : container instanceof PickleDict ? container.attributes
    : null;
  if (attributes === null) return true;
  for (const name of attributes.entries.keys()) if (typeof name !== "string") return false;
  return true;
}

function isContainer(value: unknown): value is object {
  return Array.isArray(value) || value instanceof PickleDict || value instanceof PickleNamespace || value instanceof Set ||
    value instanceof PythonObject;
}

function childrenOf(container: object): unknown[] {
  if (container instanceof PickleDict) {
    const children = [...container.entries.values()];
    for (const key of container.entries.keys()) if (isContainer(key)) children.push(key);
    if (container.attributes !== null) children.push(container.attributes);
    return children;
  }
  if (container instanceof PickleNamespace) return container.fields === null ? [] : [container.fields];
  if (container instanceof Set) return [...container];
  if (container instanceof PythonObject) {
    return [container.args, container.state, ...container.items, ...container.entries.keys(), ...container.entries.values()];
  }
  return container as unknown[];
}

/**
 * Turns an unpickled value whose structure has been checked into JavaScript values. A container that is referred to twice stays one.
 *
 * | Python | JavaScript |
 * | --- | --- |
 * | OrderedDict | `OrderedDict`, a Map |
 * | dict with string keys | object without prototype |
 * | other dict; one with a key that an object would reorder ("0", "1") or treat specially ("__proto__") | Map |
 * | list; tuple; torch.Size | Array; `PythonTuple`; `TorchSize` |
 * | set, frozenset | Set |
 * | argparse.Namespace | object without prototype |
 * | torch.device, torch.dtype | string: "cuda:0", "float32" |
 * | tensor, Parameter, numpy array | whatever `tensor` gives |
 */
export function toJavaScript(root: unknown, tensor: (reference: TensorReference) => unknown): unknown {
  const done = new Map<object, unknown>();

  const convert = (value: unknown): unknown => {
    if (typeof value !== "object" || isFinal(value)) return value;
    if (Array.isArray(value) && value.every(isFinal)) return value; // as it is: a copy, and a note about it, would only take memory
    const known = done.get(value as object);
    if (known !== undefined) return known;
    const result = convertObject(value as object);
    done.set(value as object, result);
    return result;
  };

  const convertObject = (value: object): unknown => {
    if (value instanceof TensorReference) return tensor(value);
    if (value instanceof TypedStorage) return tensor(value.asTensor());
    if (value instanceof NumpyArray) return value.tensor === null ? null : convert(value.tensor);
    if (value instanceof PythonTuple) return PythonTuple.fromArray(Array.from(value, convert));
    if (Array.isArray(value)) return value.map(convert);
    if (value instanceof Set) return new Set(Array.from(value, convert));
    if (value instanceof PickleDict) return convertDict(value);
    if (value instanceof PickleNamespace) return value.fields === null ? Object.create(null) : toObject(value.fields.entries);
    if (value instanceof PythonGlobal) return value.module === "torch" && isDType(value.qualifiedName) ? value.qualifiedName : value;
    if (value instanceof PythonObject) return convertPlaceholder(value);
    return value;
  };

  const convertDict = (dict: PickleDict): unknown => {
    if (!dict.ordered && [...dict.entries.keys()].every(isObjectKey)) return toObject(dict.entries);
    const map = dict.ordered ? new OrderedDict<unknown, unknown>() : new Map<unknown, unknown>();
    convertEntries(dict.entries, map);
    if (map instanceof OrderedDict && dict.attributes !== null) map.attributes = toObject(dict.attributes.entries);
    return map;
  };

  const convertEntries = (entries: Map<unknown, unknown>, into: Map<unknown, unknown>): void => {
    for (const [key, value] of entries) {
      // torch.float32 becomes "float32", but where that is a key of its own.
      const name = convert(key);
      into.set(name !== key && entries.has(name) ? key : name, convert(value));
    }
  };

  const toObject = (entries: Map<unknown, unknown>): Record<string, unknown> => {
    const object = Object.create(null) as Record<string, unknown>;
    for (const [key, value] of entries) object[String(key)] = convert(value);
    return object;
  };

  const convertPlaceholder = (placeholder: PythonObject): PythonObject => {
    const result = new PythonObject(placeholder.global, convert(placeholder.args));
    result.state = convert(placeholder.state);
    result.items.push(...placeholder.items.map(convert));
    convertEntries(placeholder.entries, result.entries);
    return result;
  };

  return convert(root);
}

/** What `toJavaScript` hands out unchanged. */
function isFinal(value: unknown): boolean {
  return typeof value !== "object" || value === null || value instanceof Uint8Array || value instanceof PythonFloat;
}

/** Keys that a plain object keeps as they are and in their place. Integer-like ones would move to the front. */
function isObjectKey(key: unknown): boolean {
  return typeof key === "string" && key !== "__proto__" && !/^(0|[1-9]\d{0,9})$/.test(key);
}
