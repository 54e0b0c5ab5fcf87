import { type Command, Option } from "commander";
import type { FeatureLayer } from "../train/features.js";
import type { Precision } from "../train/options.js";
import { wholeFrom } from "./numberOption.js";

/** Parsed flags of commands that compute features with a frozen encoder. */
export interface FeatureFlags {
  pretrained?: string;
  layer?: FeatureLayer;
  imageSize?: number;
  heads?: number;
  batchSize: number;
  device?: string;
  precision: Precision;
  exif?: boolean;
}

/** Adds the flags that say which encoder computes features, and how. */
export function addFeatureFlags(command: Command): Command {
  const options = [
    new Option("--pretrained <path>", "checkpoint of any kind that moco convert reads, or the folder of a run for its latest"),
    new Option("--layer <name>", "class: a ViT's class token; patches: the mean of its patch tokens; pooled: of a ResNet; projector: MoCo's (default: class or pooled)")
      .choices(["class", "patches", "pooled", "projector"]),
    new Option("--image-size <pixels>", "side of the network's input (default: a ViT's own, 224 for a ResNet)").argParser(wholeFrom(1)),
    new Option("--heads <n>", "attention heads of a ViT, where the file does not tell").argParser(wholeFrom(1)),
    new Option("-b, --batch-size <n>", "images of one forward pass").argParser(wholeFrom(1)).default(64),
    new Option("--device <name>", "cpu, cuda or cuda:N (default: the first GPU, else cpu)"),
    new Option("--precision <name>", "of the forward pass").choices(["fp32", "bf16", "fp16"]).default("fp32"),
    new Option("--exif", "turn pictures upright as their EXIF orientation says"),
  ];
  options.forEach((option) => command.addOption(option));
  return command;
}
