import { type Command, Option } from "commander";
import pc from "picocolors";
import type { AugmentReport } from "../report/augmentReport.js";
import { ensureReady } from "../setup/index.js";
import { megabytes } from "./megabytes.js";
import { numberIn, wholeFrom } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { asUsageError, UsageError } from "./usageError.js";

interface AugmentFlags {
  out?: string;
  rows: number;
  images?: number;
  shuffleBuffer?: number;
  seed: number;
  epoch: number;
  imageSize: number;
  cropMin: number;
  exif?: boolean;
  json?: boolean;
}

const AUGMENT_HELP = `
Shows the first images of an epoch as training gets them: moco pretrain with the same --seed, --image-size, --crop-min and --exif draws
the same crops and colours, and the views have the very pixels that the network gets before they are normalised.

Examples:
  $ moco report augment photos --out views.html
  $ moco report augment photos --out views.png --rows 4 --crop-min 0.2 --seed 7
  $ moco report augment photos --json`;

/** `moco report augment DATA` */
export function registerAugment(report: Command): void {
  report
    .command("augment")
    .description("a contact sheet of images and the two views that training makes of each, with all that was drawn for them")
    .argument("<DATA>", "images as moco pretrain takes them: a folder, a file list, shards, ...")
    .option("--out <file>", "page (.html) or picture (.png) to write")
    .addOption(new Option("--rows <n>", "how many images to show").argParser(wholeFrom(1, 100)).default(12))
    .addOption(new Option("--seed <n>", "seed of order and augmentation").argParser(wholeFrom(0)).default(0))
    .addOption(new Option("--epoch <n>", "epoch, counted from 0").argParser(wholeFrom(0)).default(0))
    .addOption(new Option("--image-size <pixels>", "side of the square views").argParser(wholeFrom(1, 1024)).default(224))
    .addOption(
      new Option("--crop-min <share>", "smallest share of an image's area that a crop shows")
        .argParser(numberIn({ above: 0, most: 1 })).default(0.08),
    )
    .option("--exif", "turn images upright as their EXIF orientation says")
    .addOption(
      new Option("--images <n>", "images of an epoch, where shards that come through a command do not tell").argParser(wholeFrom(1)),
    )
    .addOption(
      new Option("--shuffle-buffer <n>", "images of shards among which the next one is drawn (default: 1000)").argParser(wholeFrom(1)),
    )
    .option("--json", "print the parameters as JSON")
    .addHelpText("after", AUGMENT_HELP)
    .action(augment);
}

async function augment(data: string, { out, json, images: length, shuffleBuffer, ...options }: AugmentFlags): Promise<void> {
  if (out === undefined && !json) throw new UsageError("give --out FILE.html or FILE.png for the sheet, or --json for the parameters");
  if (out !== undefined && !/\.(html|png)$/i.test(out)) throw new UsageError(`--out is ${out}; give a name that ends in .html or .png`);
  await ensureReady();
  const { openImages } = await import("../data/openImages.js");
  const { writeAugmentReport } = await import("../report/augmentReport.js");
  const { plainText } = await import("../report/htmlPage.js");
  let report: AugmentReport;
  try {
    report = await writeAugmentReport(await openImages(data, { length, shuffleBuffer }), out ?? null, options);
  } catch (error) {
    throw asUsageError(error);
  }
  for (const { name, reason } of report.bad) process.stderr.write(`${pc.yellow("left out:")} ${plainText(name)}: ${plainText(reason)}\n`);
  for (const warning of report.warnings) process.stderr.write(`${pc.yellow("warning:")} ${warning}\n`);
  if (out !== undefined) process.stderr.write(`${summary(report)}\n`);
  process.stdout.write(json ? `${toJson(report)}\n` : `${out}\n`);
}

function summary({ images, bytes, total }: AugmentReport): string {
  return `${images.length} of ${total.toLocaleString("en")} images with two views each, ${megabytes(bytes)}`;
}
