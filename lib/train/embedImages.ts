import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { ImagePool, isStream, nameOf, TooManyBadImagesError, type BadImage, type ImageSource, type ImageStream } from "../data/index.js";
import * as torch from "../torch/index.js";
import { embeddingFormat, filesOf, writeEmbeddings } from "./embeddings/embeddingFile.js";
import { EmbeddingFileError, type EmbeddingChunk } from "./embeddings/embeddings.js";
import { imagesFrom, openImageInputs } from "./embeddings/imageInputs.js";
import { EmbedResumeError, PartialEmbeddings, type Manifest } from "./embeddings/partialEmbeddings.js";
import { FeatureExtractor, type FeatureLayer } from "./features.js";
import { loadFrozenEncoder } from "./frozenEncoder.js";
import { normalized } from "./neighbours/similarity.js";
import { requirePrecision, requireRange, requireWhole, resolveDevice, type Precision } from "./options.js";

/** Which images, which encoder, and where the vectors go. */
export interface EmbedImagesOptions {
  /** Image files, or one of whatever `openImages` knows: a folder, a list, shards. */
  images: readonly string[];
  /** A checkpoint of any kind that `moco convert` reads, or a run's folder. */
  checkpoint: string;
  /** The file to write; its ending says which kind. Without one, the rows go to `onRows`. */
  out?: string;
  /** Which part of a data set that has several. Default `"train"`. */
  split?: string;
  layer?: FeatureLayer;
  /** Default: the first GPU, else the CPU. */
  device?: string;
  /** Default `"fp32"`. */
  precision?: Precision;
  /** Default 64. */
  batchSize?: number;
  /** CPU threads that decode, and that one operator uses. Default: one for each core. */
  threads?: number;
  imageSize?: number;
  numHeads?: number;
  /** Turn pictures upright as their EXIF orientation says. Default false. */
  exif?: boolean;
  /** Give vectors the length 1. Default false. */
  normalize?: boolean;
  /** Share of the images that may be unreadable. Default 0.01. */
  maxBad?: number;
  /** Begin anew where results of an earlier run are. Default false. */
  restart?: boolean;
  /** Replace `out` where it is there already. Default false. */
  force?: boolean;
}

/** What {@link embedImages} tells while it works. */
export interface EmbedImagesHooks {
  /** Stops after the batch that is under way; what is done is kept for a later run. */
  signal?: AbortSignal;
  onStart?(facts: { images: number; done: number; dim: number; layer: FeatureLayer; device: string; imageSize: readonly [number, number]; checkpoint: string; notes: readonly string[] }): void;
  /** After each batch: images that are done, the unreadable ones included. */
  onProgress?(done: number): void;
  onBadImage?(image: BadImage): void;
  /** Where there is no `out`: each batch's rows. */
  onRows?(chunk: EmbeddingChunk): Promise<void> | void;
}

/** What {@link embedImages} has computed. */
export interface EmbedImagesResult {
  /** `"interrupted"` by the signal: the same call goes on. */
  reason: "finished" | "interrupted";
  out: string | null;
  /** Rows that were computed, in this run or before. */
  rows: number;
  dim: number;
  layer: FeatureLayer;
  bad: BadImage[];
  /** Images that an earlier run had done. */
  resumedFrom: number;
}

/** Time from one commit of the results to the next, in milliseconds. */
const COMMIT_MS = 1000;

/**
 * Embeds a data set into a file. What is done is kept on disk beside it, in `OUT.part`, so that a later call with the same options goes on
 * where one was stopped, by whatever; the file has the same bytes as if nothing had stopped it, and it appears under its name when it is
 * complete. Of any number of images only some batches are in memory.
 *
 * @throws EmbedResumeError where the checkpoint, an option or the images are not those of the results so far; TooManyBadImagesError;
 *   FeatureError for features that are not finite; EmbeddingFileError for `out`; OptionError; the errors of reading checkpoint and images
 * @example await embedImages({ images: ["photos"], checkpoint: "runs/photos", out: "photos.parquet" });
 */
export async function embedImages(options: EmbedImagesOptions, hooks: EmbedImagesHooks = {}): Promise<EmbedImagesResult> {
  const { out, precision = "fp32", batchSize = 64, threads, normalize = false, exif = false, maxBad = 0.01 } = options;
  requireWhole("batchSize", batchSize, 1);
  requireRange("maxBad", maxBad, 0, 1);
  if (threads !== undefined) requireWhole("threads", threads, 1);
  const device = resolveDevice(options.device);
  requirePrecision(precision, device);
  if (out !== undefined) await requireFree(out, options);
  const { split, imageSize, layer, numHeads } = options;
  const images = await openImageInputs(options.images, split === undefined ? {} : { split });
  if (threads !== undefined) torch.setNumThreads(threads);
  const { encoder, file, spec } = await loadFrozenEncoder(options.checkpoint, { numHeads, layer, device });
  const pool = threads === undefined ? undefined : new ImagePool(threads);
  let partial: PartialEmbeddings | null = null;
  try {
    const extractor = new FeatureExtractor(encoder, { layer, imageSize, batchSize, device, precision });
    const { dim } = extractor;
    const names = createHash("sha256");
    if (out !== undefined) {
      const settings = { layer: extractor.layer, imageSize: extractor.imageSize.join("x"), batchSize, precision, device: device.split(":")[0]!, normalize, ...(exif && { exif }) };
      const about = { numHeads: spec.numHeads, normEps: spec.normEps, images: images.length, split: split ?? null, names: namesOf(images) };
      const manifest: Manifest = { version: 1, checkpoint: await digestOf(file), ...settings, ...about };
      if (options.restart) await PartialEmbeddings.remove(out);
      partial = await PartialEmbeddings.open(out, manifest, dim);
    }
    const resumedFrom = partial?.done ?? 0;
    const bad = partial?.bad ?? [];
    hooks.onStart?.({
      images: images.length, done: resumedFrom, dim, layer: extractor.layer, device, imageSize: extractor.imageSize, checkpoint: file, notes: spec.notes,
    });

    let done = 0;
    const skipped = (name: string): void => {
      addName(names, name);
      if (++done === resumedFrom) requireSameNames(names, partial!);
    };
    const rest = imagesFrom(images, resumedFrom, skipped);
    if (rest.images.length === 0) done = resumedFrom;
    let rows = partial?.count ?? 0;
    let committed = performance.now();
    for await (const batch of rest.images.length === 0 ? [] : extractor.batches(rest.images, { exif, ...(pool && { pool }) })) {
      const features = batch.features;
      const values = torch.scope(() => (normalize ? normalized(features) : features).to("cpu").data() as Float32Array);
      features.dispose();
      const chunk = { names: batch.names, features: values };
      const count = batch.names.length + batch.bad.length;
      for (const name of rest.takeNames(count)) addName(names, name);
      rows += batch.names.length;
      // A source's images are counted from the one that this run began with.
      const newBad = isStream(images) ? batch.bad : batch.bad.map((each) => ({ ...each, index: each.index + resumedFrom }));
      for (const each of newBad) hooks.onBadImage?.(each);
      if (partial === null) {
        bad.push(...newBad);
        await hooks.onRows?.(chunk);
      } else {
        await partial.add(chunk, newBad);
      }
      done += count;
      if (bad.length > maxBad * images.length) throw new TooManyBadImagesError(bad, images.length, maxBad);
      hooks.onProgress?.(done);
      const stopped = hooks.signal?.aborted === true && done < images.length;
      if (partial !== null && (stopped || performance.now() - committed > COMMIT_MS)) {
        await partial.commit(done, names.copy().digest("hex"));
        committed = performance.now();
      }
      if (stopped) return { reason: "interrupted", out: out ?? null, rows, dim, layer: extractor.layer, bad, resumedFrom };
    }
    if (done < resumedFrom) requireSameNames(names, partial!); // there are fewer now
    if (rows === 0) throw new TooManyBadImagesError(bad, images.length, maxBad);
    if (partial !== null) {
      await partial.commit(done, names.copy().digest("hex"));
      await writeEmbeddings(out!, partial);
      await partial.close();
      partial = null;
      await PartialEmbeddings.remove(out!);
    }
    return { reason: "finished", out: out ?? null, rows, dim, layer: extractor.layer, bad, resumedFrom };
  } finally {
    await partial?.close();
    pool?.close();
    encoder.dispose();
  }
}

/** @throws EmbeddingFileError unless `out` can be written, and is not there already */
async function requireFree(out: string, { force, restart }: EmbedImagesOptions): Promise<void> {
  embeddingFormat(out);
  if (force || restart || (await PartialEmbeddings.exists(out))) return;
  for (const file of filesOf(out)) {
    if (await stat(file).then(() => true, () => false)) throw new EmbeddingFileError(file, "it is there already; give another file, or replace it with --force");
  }
}

function addName(hash: Hash, name: string): void {
  hash.update(`${name}\0`);
}

function requireSameNames(names: Hash, { namesDigest, folder }: PartialEmbeddings): void {
  if (names.copy().digest("hex") === namesDigest) return;
  throw new EmbedResumeError(
    `the images that ${folder} has results of are not the first ones any more: files were added, removed or renamed; begin anew with --restart`,
  );
}

/** A digest of a source's names; a stream tells them only as it goes. */
function namesOf(images: ImageSource | ImageStream): string | null {
  if (isStream(images)) return null;
  const hash = createHash("sha256");
  for (let index = 0; index < images.length; index++) addName(hash, nameOf(images, index));
  return hash.digest("hex");
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(file, { highWaterMark: 2 ** 22 }) as AsyncIterable<Buffer>) hash.update(bytes);
  return hash.digest("hex");
}
