import { once } from "node:events";
import { type Command, Option } from "commander";
import pc from "picocolors";
import { readConfig } from "../config.js";
import { ensureReady } from "../setup/index.js";
import type { EmbedImagesHooks, EmbedImagesOptions, EmbedImagesResult } from "../train/embedImages.js";
import { programWords, shellLine } from "./commandLine.js";
import { counted } from "./counted.js";
import { addFeatureFlags, type FeatureFlags } from "./featureFlags.js";
import { numberIn, wholeFrom } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { asUsageError, UsageError } from "./usageError.js";

interface Flags extends FeatureFlags, Omit<EmbedImagesOptions, "images" | "checkpoint" | "numHeads" | keyof FeatureFlags> {
  quiet?: boolean;
  json?: boolean;
}

const HELP = `
Layers: class, a ViT's class token, and pooled, the mean over a ResNet's last feature map, are the defaults and what kNN, linear probes and search
use. patches is the mean of a ViT's patch tokens, which some prefer for retrieval of scenes. projector is the space of the pre-training's own loss:
it has thrown away what augmentation changes, such as colour, and is for looking at the training; only pre-training checkpoints have it.

Vectors are float32 in any --precision. Without --out the rows go to standard output as JSON lines, {"file": ..., "embedding": [...]}. With it, what is done is kept beside the file, in
FILE.part: after Ctrl-C or anything worse, the same command goes on, and the file ends with the same bytes.

Examples:
  $ moco embed photos --pretrained runs/photos --out photos.npy
  $ moco embed 'shards/{000..099}.tar' --pretrained vit-s-300ep.pth.tar --out shards.parquet --batch-size 256 --precision bf16
  $ moco embed cat.jpg dog.jpg --pretrained runs/photos`;

/** `moco embed IMAGES...` */
export function register(program: Command): void {
  const command = program
    .command("embed")
    .description("turn images into feature vectors with a trained encoder")
    .argument("<images...>", "image files, or a folder, a file list, tar shards, Parquet, ... as moco pretrain takes them");
  addFeatureFlags(command)
    .option("--out <file>", "file to write: .npy (names beside it, in .names.jsonl), .parquet, .jsonl or .safetensors")
    .addOption(new Option("--threads <n>", "CPU threads that decode and compute (default: one for each core)").argParser(wholeFrom(1, 1024)))
    .option("--split <name>", "part of a data set that has several (default: train)")
    .option("--normalize", "give vectors the length 1")
    .addOption(new Option("--max-bad <share>", "share of the images that may be unreadable").argParser(numberIn({ least: 0, most: 1 })).default(0.01))
    .option("--restart", "begin anew, without what an earlier run has done")
    .option("--force", "replace the file of --out")
    .option("--quiet", "no progress")
    .option("--json", "print what was done as JSON; needs --out")
    .addHelpText("after", HELP)
    .action(embed);
}

async function embed(images: string[], { pretrained, heads, quiet: quietFlag, json, ...flags }: Flags): Promise<void> {
  if (pretrained === undefined) throw new UsageError("say which encoder makes the vectors: --pretrained CHECKPOINT");
  if (json && flags.out === undefined) throw new UsageError("--json tells about a file; give --out FILE, or leave --json out for the rows as JSON lines");
  const quiet = quietFlag === true || readConfig().quiet;
  await ensureReady();
  const { embedImages } = await import("../train/embedImages.js");
  const { listenForInterrupt } = await import("../train/runs/interrupt.js");
  const interrupt = listenForInterrupt((signal) => tell(`${signal}: finishing this batch. Ctrl-C again quits at once.`));
  const options: EmbedImagesOptions = { ...flags, images, checkpoint: pretrained, ...(heads !== undefined && { numHeads: heads }) };
  const began = performance.now();
  let result: EmbedImagesResult;
  try {
    result = await embedImages(options, { ...await display(quiet), signal: interrupt.signal });
  } catch (error) {
    throw asUsageError(error);
  } finally {
    interrupt.dispose();
  }
  const seconds = (performance.now() - began) / 1000;
  if (result.reason === "interrupted") {
    const how = flags.out === undefined ? "" : ` Go on with:\n  ${shellLine([...programWords(), ...process.argv.slice(2).filter((word) => word !== "--restart")])}`;
    tell(`Stopped by ${String(interrupt.signal.reason)} after ${counted(result.rows + result.bad.length, "image")}.${how}`);
    process.exitCode = 1;
  } else if (!quiet) {
    const left = result.bad.length > 0 ? `; left out as unreadable: ${counted(result.bad.length, "image")}` : "";
    tell(`${counted(result.rows, "vector")} of ${result.dim} in ${seconds.toFixed(1)} s${left}`);
  }
  if (json) process.stdout.write(`${toJson({ ...result, seconds })}\n`);
  else if (result.reason === "finished" && result.out !== null) process.stdout.write(`${result.out}\n`);
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Progress on standard error, rows without a file on standard output. */
async function display(quiet: boolean): Promise<EmbedImagesHooks> {
  const { jsonLinesOf } = await import("../train/embeddings/jsonLines.js");
  const { plainText } = await import("../report/htmlPage.js");
  let total = 0;
  let told = 0;
  let first = 0;
  let began = 0;
  return {
    onStart: ({ images, done, dim, layer, device, imageSize, checkpoint, notes }) => {
      [total, first, began] = [images, done, performance.now()];
      if (quiet) return;
      for (const note of notes) tell(`note: ${note}`);
      const from = done > 0 ? `, going on after ${done.toLocaleString("en")}` : "";
      tell(`${checkpoint}, layer ${layer} (${dim} values), input ${imageSize.join(" x ")}, on ${device}: ${counted(images, "image")}${from}`);
    },
    onProgress: (done) => {
      const now = performance.now();
      if (quiet || (now - told < 1000 && done < total)) return;
      told = now;
      tell(`${done.toLocaleString("en")} of ${total.toLocaleString("en")}  ${((1000 * (done - first)) / (now - began)).toFixed(0)} images/s`);
    },
    onBadImage: ({ name, reason }) => tell(`${pc.yellow("left out:")} ${plainText(name)}: ${plainText(reason)}`),
    onRows: async (chunk) => {
      for (const line of jsonLinesOf(chunk)) if (!process.stdout.write(line)) await once(process.stdout, "drain");
    },
  };
}
