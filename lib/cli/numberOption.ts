import { InvalidArgumentError } from "commander";

/** What a number may be. */
export interface Range {
  least?: number;
  above?: number;
  most?: number;
  below?: number;
}

/** A parser for flags that take a number within limits. */
export function numberIn({ least = -Infinity, above = -Infinity, most = Infinity, below = Infinity }: Range): (text: string) => number {
  const limits = [
    [least, "of at least"], [above, "above"], [most, "of at most"], [below, "below"],
  ].flatMap(([limit, words]) => (Number.isFinite(limit) ? [`${words} ${limit}`] : []));
  return (text) => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (Number.isFinite(value) && value >= least && value > above && value <= most && value < below) return value;
    throw new InvalidArgumentError(`It takes a number ${limits.join(" and ")}.`);
  };
}

/** A parser for flags that take a whole number from `least` to `most`. */
export function wholeFrom(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const upTo = most < Number.MAX_SAFE_INTEGER ? ` and of at most ${most}` : "";
  return (text) => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : NaN;
    if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It takes a whole number of at least ${least}${upTo}.`);
  };
}
