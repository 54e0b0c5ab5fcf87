import { type Command, InvalidArgumentError, Option } from "commander";
import { readConfig } from "../config.js";
import { ensureReady } from "../setup/index.js";
import type { KnnEvaluation } from "../train/knnEvaluation.js";
import type { Precision } from "../train/options.js";
import { tellBad } from "./comparisonFlags.js";
import { counted } from "./counted.js";
import { CountingLine } from "./countingLine.js";
import { addFeatureFlags, type FeatureFlags } from "./featureFlags.js";
import { numberIn, wholeFrom } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { asUsageError, UsageError } from "./usageError.js";

interface Flags extends FeatureFlags {
  neighbours: number[];
  temperature: number;
  galleryPrecision: Precision;
  val?: string;
  numClasses?: number;
  images?: number;
  quiet?: boolean;
  json?: boolean;
}

const HELP = `
Each image of the validation part takes the class that its k most similar images of the training part vote for. Nothing is trained. Without
a validation part, each image of the training part is judged by the others.

Examples:
  $ moco knn imagenet --pretrained runs/vits
  $ moco knn photos --pretrained vit-s-300ep.pth.tar -k 10,20,100,200 --json`;

/** `moco knn DIR --pretrained CKPT` */
export function register(program: Command): void {
  const command = program
    .command("knn")
    .description("judge an encoder by the nearest neighbours of labelled images: weighted kNN on frozen features")
    .argument("<DIR>", "labelled images: train/ and val/ with a folder for each class, one folder of classes, or a benchmark data set");
  addFeatureFlags(command)
    .addOption(new Option("-k, --neighbours <list>", "neighbours that vote; several numbers are judged in one pass").argParser(parseList).default([20], "20"))
    .addOption(new Option("--temperature <t>", "a vote weighs exp(similarity / t)").argParser(numberIn({ above: 0 })).default(0.07))
    .option("--val <dir>", "images to judge by, where they are not part of DIR")
    .addOption(new Option("--num-classes <n>", "number of classes, for shards that do not name them").argParser(wholeFrom(1)))
    .addOption(new Option("--images <n>", "only so many images of each part, at random, always the same ones (default: all)").argParser(wholeFrom(2)))
    .addOption(
      new Option("--gallery-precision <name>", "how the training part's features are kept; half precision halves their memory")
        .choices(["fp32", "bf16", "fp16"]).default("fp32"),
    )
    .option("--quiet", "no progress")
    .option("--json", "print the result as JSON")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(data: string, { json, quiet, heads, pretrained, ...flags }: Flags): Promise<void> {
  if (pretrained === undefined) throw new UsageError("say whose features are judged: --pretrained CHECKPOINT");
  await ensureReady();
  const { evaluateKnn } = await import("../train/knnEvaluation.js");
  const line = new CountingLine(quiet === true || readConfig().quiet);
  const stages = { gallery: "features to vote", queries: "features to judge", neighbours: "neighbours" };
  let result: KnnEvaluation;
  try {
    const onProgress: Parameters<typeof evaluateKnn>[0]["onProgress"] = ({ stage, done, total }) => line.show(stages[stage], done, total);
    result = await evaluateKnn({ ...flags, data, pretrained, numHeads: heads, onProgress });
  } catch (error) {
    throw asUsageError(error);
  } finally {
    line.clear();
  }
  tellBad(result.bad);
  process.stdout.write(json ? `${toJson({ pretrained, ...result })}\n` : table(result));
}

function table({ scores, gallery, queries, leaveOneOut, classes }: KnnEvaluation): string {
  const percent = (value: number): string => `${value.toFixed(1)} %`.padStart(9);
  const judged = leaveOneOut
    ? `${counted(queries, "image")} of ${classes} classes, each judged by all others`
    : `${counted(queries, "image")} of ${classes} classes, judged by ${gallery.toLocaleString("en")}`;
  return [
    `${"k".padStart(5)}${"acc@1".padStart(9)}${"acc@5".padStart(9)}`,
    ...scores.map(({ k, acc1, acc5 }) => `${String(k).padStart(5)}${percent(acc1)}${percent(acc5)}`),
    "",
    judged,
    "",
  ].join("\n");
}

function parseList(text: string): number[] {
  const numbers = text.split(",").map((each) => (/^\s*\d+\s*$/.test(each) ? Number(each) : NaN));
  if (numbers.every((each) => Number.isSafeInteger(each) && each >= 1)) return numbers;
  throw new InvalidArgumentError("It takes one or more whole numbers of at least 1, such as 20 or 10,20,100.");
}
