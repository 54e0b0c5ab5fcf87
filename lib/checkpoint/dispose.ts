import { Tensor } from "../torch/index.js";
import { OrderedDict } from "./pythonValues.js";

/**
 * Frees every tensor in a checkpoint's value, wherever it lies. Containers that are referred to twice are walked once.
 *
 * @example
 * const checkpoint = await readCheckpoint("checkpoint_0099.pth.tar");
 * console.log(checkpoint.epoch);
 * disposeTensors(checkpoint);
 */
export function disposeTensors(value: unknown): void {
  const seen = new Set<object>();
  const visit = (each: unknown): void => {
    if (typeof each !== "object" || each === null || ArrayBuffer.isView(each) || seen.has(each)) return;
    seen.add(each);
    if (each instanceof Tensor) return each.dispose();
    if (each instanceof OrderedDict) visit(each.attributes);
    if (each instanceof Map) for (const key of each.keys()) visit(key); // a tuple may be a key, and hold a tensor
    const children = each instanceof Map || each instanceof Set || Array.isArray(each) ? each.values() : Object.values(each);
    for (const child of children) visit(child);
  };
  visit(value);
}
