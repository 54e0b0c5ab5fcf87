import { existsSync } from "node:fs";
import { join } from "node:path";
import { VisionTransformer } from "../../lib/models/index.js";
import { pretrain } from "../../lib/train/pretrain.js";
import type { ComparedData } from "./dataSets.js";

/**
 * Pre-trains a data set's encoder on the images of its `train` part, without their labels. One that is there already is taken as it
 * is.
 *
 * @param out folder for the checkpoint
 * @returns path of the checkpoint, which both sides read
 */
export async function pretrainEncoder({ encoder, pretraining }: ComparedData, data: string, out: string, quick: boolean): Promise<string> {
  const epochs = quick ? 2 : pretraining.epochs;
  const last = join(out, `checkpoint_${String(epochs - 1).padStart(4, "0")}.pth.tar`);
  if (existsSync(last)) return last;
  const batchSize = quick ? 32 : pretraining.batchSize;
  const { moco, checkpoint } = await pretrain({
    ...pretraining, epochs, batchSize, data, out, imageSize: encoder.imageSize, arch: "vit_compared", saveEveryEpochs: epochs,
    encoder: (numClasses) => new VisionTransformer({ ...encoder, numClasses }),
  });
  moco.dispose();
  return checkpoint!;
}
