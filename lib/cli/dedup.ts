import { type Command, Option } from "commander";
import { ensureReady } from "../setup/index.js";
import type { DuplicatesResult } from "../train/searchImages.js";
import { addComparisonFlags, showProgress, tellBad, toComparedOptions, type ComparisonFlags } from "./comparisonFlags.js";
import { counted } from "./counted.js";
import { numberIn } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { asUsageError } from "./usageError.js";

interface Flags extends ComparisonFlags {
  threshold: number;
  raw?: boolean;
}

const HELP = `
Any two images of a group are at least --threshold similar, so all but one of a group can go; images that are linked only through others are
in groups of their own. Nothing is deleted. Similarity is the cosine of two feature vectors after the mean of all has been taken away, at most 1:
images with nothing in common come out around 0, copies that were resized, compressed again or cropped a little at 0.97 to 1. Look at what
--threshold 0.9 finds besides, and choose.

Examples:
  $ moco dedup photos --pretrained runs/vits
  $ moco dedup features.npy --threshold 0.98 --json`;

/** `moco dedup DIR|EMBEDDINGS` */
export function register(program: Command): void {
  const command = program
    .command("dedup")
    .description("find groups of images that are nearly the same; nothing is deleted")
    .argument("<IMAGES>", "images as moco pretrain takes them, or an embeddings file (.npy, .parquet, .jsonl, .safetensors)")
    .addOption(
      new Option("--threshold <similarity>", "similarity from which on two images are nearly the same").argParser(numberIn({ above: 0, most: 1 })).default(0.97),
    )
    .option("--raw", "compare features as they are, without taking away their mean: any two images may then be 0.99 similar");
  addComparisonFlags(command).addHelpText("after", HELP).action(run);
}

async function run(images: string, flags: Flags): Promise<void> {
  await ensureReady();
  const { findDuplicates } = await import("../train/searchImages.js");
  const progress = showProgress(flags);
  let result: DuplicatesResult;
  try {
    result = await findDuplicates(images, { ...toComparedOptions(flags), threshold: flags.threshold, raw: flags.raw, onProgress: progress.show });
  } catch (error) {
    throw asUsageError(error);
  } finally {
    progress.clear();
  }
  tellBad(result.bad);
  process.stdout.write(flags.json ? `${toJson(result)}\n` : text(result));
}

function text({ groups, images, threshold }: DuplicatesResult): string {
  const shown = groups.map(({ images, similarity }) => {
    const rows = images.map(({ name, similarity }, i) => `  ${i === 0 ? "     " : similarity.toFixed(3)}  ${name}\n`);
    return `${images.length} images, any two at least ${similarity.toFixed(3)} similar\n${rows.join("")}\n`;
  });
  const more = groups.reduce((sum, { images }) => sum + images.length - 1, 0);
  const found = groups.length === 0
    ? `No two of ${counted(images, "image")} are ${threshold} similar.`
    : `${counted(groups.length, "group")} among ${counted(images, "image")}; with one of each kept, ${counted(more, "image")} could go.`;
  return `${shown.join("")}${found}\n`;
}
