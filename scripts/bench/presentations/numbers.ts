import type { Spread } from "../spread.js";

const NONE = "–";

/** For readers: at least three digits, thousands apart, no exponent; a dash for what was not measured. */
export function number(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  if (value === 0) return "0";
  const decimals = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** A factor such as a ratio: two decimals. */
export function factor(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? NONE : value.toFixed(2);
}

/** Two digits: `0.044 %`, `8.2 %`, `30 %`. */
export function percent(share: number | undefined): string {
  if (share === undefined || !Number.isFinite(share)) return NONE;
  return `${Number((100 * share).toPrecision(share < 0.995 ? 2 : 3))} %`;
}

/** `7.25 (6.99–9.22)`: the median and the range. */
export function spread(value: Spread | undefined): string {
  if (value === undefined) return NONE;
  return value.low === value.high ? number(value.median) : `${number(value.median)} (${number(value.low)}–${number(value.high)})`;
}

/** A count that is exact: `10,000`. */
export function count(value: number): string {
  return value.toLocaleString("en-US");
}
