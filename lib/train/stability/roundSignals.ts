import type { StepSignals } from "../../report/index.js";

/** Enough to see anything by, and a line of the log stays short. */
const DIGITS = 5;

/** Signals as the log keeps them. */
export function roundSignals(signals: StepSignals): StepSignals {
  return rounded(signals) as StepSignals;
}

function rounded(value: unknown): unknown {
  if (typeof value === "number") return Number(value.toPrecision(DIGITS));
  if (Array.isArray(value)) return value.map(rounded);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, rounded(each)]));
}
