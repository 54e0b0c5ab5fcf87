import { PlacementError } from "./placement.js";

/** A value, and the flag or variable that gave it, for messages. */
export interface Setting<T> {
  value: T;
  source: string;
}

/**
 * A variable's whole number, or null where it is not set.
 *
 * @throws PlacementError for anything else
 */
export function wholeSetting(source: string, text: string | undefined, least = 0, most = Number.MAX_SAFE_INTEGER): Setting<number> | null {
  if (text === undefined) return null;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return { value, source };
  const limit = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new PlacementError(`${source} is "${text}"; set it to a whole number ${limit}, or unset it`);
}

/** A setting as messages show it. */
export function told({ value, source }: Setting<unknown>): string {
  return `${source} is ${String(value)}`;
}
