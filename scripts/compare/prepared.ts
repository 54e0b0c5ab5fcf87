import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openLabelledSplits } from "../../lib/data/index.js";
import type { ComparedData, DataName, EncoderSizes } from "./dataSets.js";
import { pretrainEncoder } from "./pretrainEncoder.js";
import type { PytorchJob } from "./pytorch.js";

export interface ComparisonOptions {
  /** Python with torch, torchvision and timm 0.4.9. */
  python: string;
  /** Checkout of facebookresearch/moco-v3. */
  upstream: string;
  /** Of one operator, on each side. Both sides run at once. */
  threads: number;
  /** Few images, epochs and seeds, to see that it runs. */
  quick: boolean;
  onProgress?(text: string): void;
}

/** Images and an encoder that both sides read from the same files. */
export interface Prepared extends ComparisonOptions {
  name: DataName;
  title: string;
  /** An image folder with `train/` and `val/`. */
  data: string;
  checkpoint: string;
  encoder: EncoderSizes;
  classes: number;
  /** Images of the part for validation. */
  judged: number;
  /** Where files of the comparison may lie. */
  folder: string;
}

/** Writes a data set into `folder` and pre-trains its encoder there. */
export async function prepare(name: DataName, dataSet: ComparedData, folder: string, options: ComparisonOptions): Promise<Prepared> {
  const data = join(folder, "images");
  mkdirSync(data, { recursive: true });
  options.onProgress?.(`${name}: writing images and pre-training the encoder`);
  await dataSet.write(data, options.quick);
  const { classes, val } = await openLabelledSplits(data);
  const checkpoint = await pretrainEncoder(dataSet, data, join(folder, "run"), options.quick);
  const { title, encoder } = dataSet;
  return { ...options, name, title, data, checkpoint, encoder, folder, classes: classes.length, judged: val!.length };
}

/** What PyTorch's side is told of it. */
export function jobOf({ upstream, data, checkpoint, encoder, threads }: Prepared): PytorchJob {
  return { upstream, data, checkpoint, encoder, threads };
}
