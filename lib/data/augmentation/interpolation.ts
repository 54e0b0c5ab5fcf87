import { DataOptionError } from "../errors.js";

/** How pixels are made of an image's, as PIL does it under these names. */
export type Interpolation = "bilinear" | "bicubic";

/** @throws {DataOptionError} for any other name. */
export function requireInterpolation(value: unknown, others: readonly string[] = []): void {
  const names = ["bilinear", "bicubic", ...others];
  if (names.includes(value as string)) return;
  throw new DataOptionError(`interpolation is ${JSON.stringify(value) ?? String(value)}; give ${names.join(" or ")}`);
}
