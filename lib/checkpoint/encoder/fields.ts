import { Tensor } from "../../torch/index.js";

/** Careful reading of values that may be anything. */

/** A dict's entries with string keys; empty for anything else. */
export function fieldsOf(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Tensor) return {};
  if (!(value instanceof Map)) return value as Record<string, unknown>;
  const fields = Object.create(null) as Record<string, unknown>;
  for (const [key, each] of value as Map<unknown, unknown>) if (typeof key === "string") fields[key] = each;
  return fields;
}

/** A whole number from 0, or null. */
export function wholeNumber(value: unknown): number | null {
  const number = typeof value === "bigint" ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 0 ? number : null;
}

/** A number above 0, or null. */
export function positive(value: unknown): number | null {
  return typeof value === "number" && value > 0 ? value : null;
}

/** [height, width] from a pair, or from the side of a square; null for anything else. */
export function sizeOf(value: unknown): [number, number] | null {
  const [height, width] = (Array.isArray(value) ? [...value] : [value, value]).map(wholeNumber);
  return height && width ? [height, width] : null;
}
