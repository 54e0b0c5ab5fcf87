import { type Command, Option } from "commander";
import { convertTargets, type ConvertTarget } from "../checkpoint/encoder/targets.js";
import { ensureReady } from "../setup/index.js";
import { wholeFrom } from "./numberOption.js";
import { UsageError } from "./usageError.js";

interface Flags {
  to: ConvertTarget;
  which: "base" | "momentum";
  heads?: number;
  force?: boolean;
  json?: boolean;
}

/** `moco convert` */
export function register(program: Command): void {
  program
    .command("convert")
    .description("take the encoder out of a checkpoint of any known kind and write it for another program")
    .argument("<in>", "checkpoint of MoCo v3, DeiT, timm, torchvision or Hugging Face, or a folder: of a run, or of Hugging Face")
    .argument("<out>", "file to write; for huggingface a folder")
    .addOption(new Option("--to <kind>", "what to write").choices(convertTargets).makeOptionMandatory())
    .addOption(new Option("--which <encoder>", "of a pre-training checkpoint").choices(["base", "momentum"]).default("base"))
    .addOption(new Option("--heads <n>", "attention heads of a ViT, where the file does not tell them").argParser(wholeFrom(1, 1024)))
    .option("--force", "replace what is at <out>")
    .option("--json", "print what was converted as JSON")
    .addHelpText("after", [
      "", "", "Examples:",
      "  $ moco convert runs/cats cats.pth --to timm",
      "  $ moco convert vit-s-300ep.pth.tar vit-s --to huggingface",
      "  $ moco convert deit_small.pth deit.encoder.pth --to encoder --heads 6",
    ].join("\n"))
    .action(async (input: string, output: string, flags: Flags) => {
      await ensureReady();
      const { convertCheckpoint, OutputExistsError } = await import("../checkpoint/index.js");
      const { findModel } = await import("../train/checkpointFiles.js");
      const { to, which, heads, force = false, json } = flags;
      const file = await findModel(input);
      try {
        const { notes, ...result } = await convertCheckpoint(file, output, { to, which, numHeads: heads, force });
        for (const note of notes) process.stderr.write(`note: ${note}\n`);
        process.stdout.write(json ? `${JSON.stringify({ ...result, notes })}\n` : `${result.path}\n`);
      } catch (error) {
        throw error instanceof OutputExistsError ? new UsageError(error.message) : error;
      }
    });
}
