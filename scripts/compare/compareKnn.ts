import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openLabelledSplits, type ImageSource } from "../../lib/data/index.js";
import { encoderFromFile } from "../../lib/models/index.js";
import { FeatureExtractor } from "../../lib/train/features.js";
import { readEncoder } from "../../lib/train/initialWeights.js";
import { ComparisonError } from "./errors.js";
import { knn } from "./methods.js";
import { moco } from "./ours.js";
import { jobOf, type Prepared } from "./prepared.js";
import { startPytorch, type KnnAnswer } from "./pytorch.js";
import type { ExactComparison } from "./table.js";

export interface KnnComparison {
  comparisons: ExactComparison[];
  /** Largest difference of a feature, over the largest feature. */
  featureDifference: number;
}

/** k nearest neighbours of both sides: nothing is drawn, so the features are the same but for rounding, and so is every accuracy but for ties. */
export async function compareKnn(prepared: Prepared): Promise<KnnComparison> {
  const { name, title, python, data, checkpoint, threads, folder, onProgress } = prepared;
  const file = join(folder, "features.f32");
  const peer = startPytorch(python, "knn", { ...jobOf(prepared), ...knn, features: file });
  let theirs: KnnAnswer;
  try {
    theirs = await peer.ask<KnnAnswer>("knn");
  } finally {
    peer.close();
  }
  const words = ["knn", data, "--pretrained", checkpoint, "-k", knn.ks.join(","), "--temperature", String(knn.temperature), "--device", "cpu"];
  const ours = await moco<{ scores: { k: number; acc1: number }[] }>(words, threads);
  const comparisons = ours.scores.map(({ k, acc1 }) => {
    const [mine, other, ties, images] = [acc1 / 100, theirs.accuracy[k]!, theirs.ties[k]!, theirs.valLabels.length];
    const equal = Math.abs(mine - other) * images < ties + 0.5; // counts, less what dividing rounds
    onProgress?.(`${name}: kNN, k = ${k}: ours ${mine.toFixed(4)}, PyTorch ${other.toFixed(4)}, ${ties} ties`);
    return { data: title, method: `kNN, k = ${k}`, images, ours: mine, theirs: other, ties, equal };
  });
  return { comparisons, featureDifference: await compareFeatures(prepared, theirs, file) };
}

/** @throws ComparisonError where the sides see other images */
async function compareFeatures({ data, checkpoint }: Prepared, { trainLabels, valLabels }: KnnAnswer, file: string): Promise<number> {
  const bytes = readFileSync(file);
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  using read = await readEncoder(checkpoint);
  const encoder = encoderFromFile(read);
  try {
    const extractor = new FeatureExtractor(encoder, { batchSize: 256 });
    const splits = await openLabelledSplits(data);
    let [largest, difference, row] = [0, 0, 0];
    for (const [source, labels] of [[splits.train, trainLabels], [splits.val as ImageSource, valLabels]] as const) {
      using table = await extractor.extract(source);
      if (String(table.labels) !== String(labels)) throw new ComparisonError(`${data}: the sides number images or classes in different orders`);
      const ours = table.features.data() as Float32Array;
      for (const [i, value] of ours.entries()) {
        const other = theirs[row * extractor.dim + i]!;
        largest = Math.max(largest, Math.abs(other));
        difference = Math.max(difference, Math.abs(value - other));
      }
      row += labels.length;
    }
    return difference / largest;
  } finally {
    encoder.dispose();
  }
}
