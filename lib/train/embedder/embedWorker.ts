/** The thread in which an `Embedder` computes: it loads the checkpoint, decodes and runs the network. */
import { parentPort, workerData } from "node:worker_threads";
import { evaluationBatches, ImagePool, sharedImagePool, type EvaluationBatch, type ImageSource } from "../../data/index.js";
import * as torch from "../../torch/index.js";
import { FeatureExtractor } from "../features.js";
import { loadFrozenEncoder } from "../frozenEncoder.js";
import { requirePrecision, resolveDevice } from "../options.js";
import type { EmbedBatch, EmbedReply, EmbedSettings, ImageFailure } from "./embedProtocol.js";
import { toSent } from "./sentError.js";

const port = parentPort!;

async function load({ path, imageSize, precision, threads, ...settings }: EmbedSettings): Promise<void> {
  if (threads !== undefined) torch.setNumThreads(threads);
  const device = resolveDevice(settings.device);
  requirePrecision(precision, device);
  const { encoder, file, spec } = await loadFrozenEncoder(path, { ...settings, device });
  const extractor = new FeatureExtractor(encoder, { layer: settings.layer, imageSize, device, precision });
  const pool = threads === undefined ? sharedImagePool() : new ImagePool(threads);
  let before: Promise<void> = Promise.resolve();
  port.on("message", ({ id, images }: EmbedBatch) => {
    // Native threads decode this batch while the network still has the one before.
    const decoding = decode(images, extractor, pool);
    decoding.catch(() => undefined); // told below
    before = before.then(async () => compute(id, extractor, await decoding)).catch((error: unknown) => {
      reply({ id, failed: error instanceof Error ? error.message : String(error) });
    });
  });
  const { layer, dim } = extractor;
  reply({ facts: { file, spec, layer, dim, imageSize: extractor.imageSize, device } });
}

async function decode(images: readonly (string | Uint8Array)[], extractor: FeatureExtractor, pool: ImagePool): Promise<EvaluationBatch> {
  const source: ImageSource = { length: images.length, image: (index) => images[index]! };
  const options = { ...extractor.preparation(), batchSize: images.length, prefetch: 1, pool };
  for await (const batch of evaluationBatches(source, options)) return batch;
  throw new RangeError("a batch has at least one image");
}

function compute(id: number, extractor: FeatureExtractor, { images, indices, bad }: EvaluationBatch): void {
  const failures: (ImageFailure | null)[] = Array.from({ length: indices.length + bad.length }, () => null);
  for (const { index, reason } of bad) failures[index] = { unreadable: reason };
  const vectors = new Float32Array(failures.length * extractor.dim);
  try {
    torch.scope(() => {
      if (indices.length === 0) return;
      const features = extractor.forward(images).to("cpu");
      const finite = torch.isfinite(features).all(1).toArray() as boolean[];
      const values = features.data() as Float32Array;
      for (const [row, index] of indices.entries()) {
        vectors.set(values.subarray(row * extractor.dim, (row + 1) * extractor.dim), index * extractor.dim);
        if (!finite[row]) failures[index] = "not finite";
      }
    });
  } finally {
    images.dispose();
  }
  reply({ id, vectors, failures }, [vectors.buffer]);
}

function reply(message: EmbedReply, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

await load(workerData as EmbedSettings).catch((error: unknown) => reply({ loadFailed: toSent(error) }));
