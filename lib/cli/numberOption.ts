import { InvalidArgumentError } from "commander";

/** A parser for a flag that takes a whole number between two limits. */
export function wholeNumber(flag: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < least || value > most) {
      throw new InvalidArgumentError(`${flag} takes a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}
