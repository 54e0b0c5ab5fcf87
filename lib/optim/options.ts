import { OptimizerOptionError } from "./optimizer.js";

/** Checks an option that must lie in [minimum, below), and names it where it does not. */
export function requireRange(name: string, value: number, minimum: number, below = Infinity): void {
  if (value >= minimum && value < below) return;
  const range = below === Infinity ? `at least ${minimum}` : `in [${minimum}, ${below})`;
  throw new OptimizerOptionError(`${name} is ${value} and must be a number ${range}`);
}
