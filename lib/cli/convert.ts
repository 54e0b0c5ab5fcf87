import { type Command, Option } from "commander";
import { convertTargets, targetOf, type ConvertTarget } from "../checkpoint/encoder/targets.js";
import { onnxLayers, onnxPrecisions, type OnnxOptions } from "../checkpoint/onnx/onnxOptions.js";
import { ensureReady } from "../setup/index.js";
import { wholeFrom } from "./numberOption.js";
import { UsageError } from "./usageError.js";

interface Flags extends OnnxOptions {
  to?: ConvertTarget;
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
    .addOption(new Option("--to <kind>", "what to write; onnx where <out> ends with .onnx").choices(convertTargets))
    .addOption(new Option("--which <encoder>", "of a pre-training checkpoint").choices(["base", "momentum"]).default("base"))
    .addOption(new Option("--heads <n>", "attention heads of a ViT, where the file does not tell them").argParser(wholeFrom(1, 1024)))
    .addOption(new Option("--precision <type>", "of an ONNX model's weights").choices(onnxPrecisions))
    .addOption(new Option("--layer <layer>", "of a ViT, an ONNX model's features").choices(onnxLayers))
    .option("--with-head", "give an ONNX model a second output, the logits of the checkpoint's classifier")
    .option("--preprocess", "let an ONNX model take pixels, uint8 [N, H, W, 3], and normalise them itself")
    .option("--force", "replace what is at <out>")
    .option("--json", "print what was converted as JSON")
    .addHelpText("after", [
      "", "", "Examples:",
      "  $ moco convert runs/cats cats.pth --to timm",
      "  $ moco convert vit-s-300ep.pth.tar vit-s --to huggingface",
      "  $ moco convert deit_small.pth deit.encoder.pth --to encoder --heads 6",
      "  $ moco convert runs/cats cats.onnx --precision float16",
    ].join("\n"))
    .action(async (input: string, output: string, flags: Flags) => {
      const to = requireTarget(output, flags);
      await ensureReady();
      const { convertCheckpoint, OutputExistsError } = await import("../checkpoint/index.js");
      const { findModel } = await import("../train/runs/checkpointFiles.js");
      const { which, heads, force = false, json, precision, layer, withHead, preprocess } = flags;
      const onnx = { precision, layer, withHead, preprocess };
      const file = await findModel(input);
      try {
        const { notes, ...result } = await convertCheckpoint(file, output, { to, which, numHeads: heads, force, onnx });
        for (const note of notes) process.stderr.write(`note: ${note}\n`);
        process.stdout.write(json ? `${JSON.stringify({ ...result, notes })}\n` : `${result.path}\n`);
      } catch (error) {
        throw error instanceof OutputExistsError ? new UsageError(error.message) : error;
      }
    });
}

function requireTarget(output: string, { to, precision, layer, withHead, preprocess }: Flags): ConvertTarget {
  const target = to ?? targetOf(output);
  if (target === null) {
    throw new UsageError(
      `${output}: its name does not tell what to write; say it with --to ${convertTargets.join(", --to ")}, or let the name end with .onnx`,
    );
  }
  const given = Object.entries({ "--precision": precision, "--layer": layer, "--with-head": withHead, "--preprocess": preprocess });
  const first = given.find(([, value]) => value !== undefined)?.[0];
  if (first !== undefined && target !== "onnx") throw new UsageError(`${first} is for ONNX models; leave it out with --to ${target}`);
  return target;
}
