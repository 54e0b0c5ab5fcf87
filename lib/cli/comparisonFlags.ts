import { type Command, Option } from "commander";
import pc from "picocolors";
import { readConfig } from "../config.js";
import type { BadImage } from "../data/index.js";
import type { ComparedImagesOptions } from "../train/searchImages.js";
import { CountingLine } from "./countingLine.js";
import { addFeatureFlags, type FeatureFlags } from "./featureFlags.js";
import { UsageError } from "./usageError.js";

/** Parsed flags of commands that compare images. */
export interface ComparisonFlags extends FeatureFlags {
  approximate?: boolean;
  exact?: boolean;
  index?: string;
  quiet?: boolean;
  json?: boolean;
}

/** Adds the flags that say how images are compared. */
export function addComparisonFlags(command: Command): Command {
  return addFeatureFlags(command)
    .option("--approximate", "search with an approximate index (usearch), as above a million images")
    .option("--exact", "compare with every image, as up to a million of them")
    .addOption(new Option("--index <file>", "keep the approximate index in this file; it is read again as long as the images are the same"))
    .option("--quiet", "no progress")
    .option("--json", "print the result as JSON");
}

/** @throws UsageError for flags that contradict each other */
export function toComparedOptions({ approximate, exact, index, heads, pretrained, layer, imageSize, batchSize, device, precision, exif }: ComparisonFlags): ComparedImagesOptions {
  if (approximate && exact) throw new UsageError("--approximate and --exact contradict each other; give one of them");
  if (exact && index !== undefined) throw new UsageError("--index keeps the approximate index, which --exact does not use; leave one of them out");
  return {
    approximate: approximate ? true : exact ? false : undefined, index, numHeads: heads, pretrained, layer, imageSize, batchSize, device, precision, exif,
  };
}

/** Shows how far a comparison is. */
export function showProgress({ quiet }: ComparisonFlags): { show: NonNullable<ComparedImagesOptions["onProgress"]>; clear(): void } {
  const line = new CountingLine(quiet === true || readConfig().quiet);
  const stages = { features: "features", index: "index", search: "searched", pairs: "compared" };
  return { show: ({ stage, done, total }) => line.show(stages[stage], done, total), clear: () => line.clear() };
}

/** Names on standard error what could not be read. */
export function tellBad(bad: readonly BadImage[]): void {
  for (const { name, reason } of bad) process.stderr.write(`${pc.yellow("left out:")} ${name}: ${reason}\n`);
}
