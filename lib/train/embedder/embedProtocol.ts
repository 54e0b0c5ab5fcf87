import type { EncoderSpec } from "../../checkpoint/index.js";
import type { FeatureLayer } from "../features.js";
import type { Precision } from "../options.js";
import type { SentError } from "./sentError.js";

/** What the embedding thread needs to begin. */
export interface EmbedSettings {
  path: string;
  numHeads: number | undefined;
  layer: FeatureLayer | undefined;
  imageSize: number | readonly [number, number] | undefined;
  device: string | undefined;
  precision: Precision;
  threads: number | undefined;
}

/** What it has loaded. */
export interface EmbedderFacts {
  /** The checkpoint file. */
  file: string;
  /** What is known about the encoder. */
  spec: EncoderSpec;
  layer: FeatureLayer;
  /** Length of a vector. */
  dim: number;
  /** Height and width of the network's input in pixels. */
  imageSize: readonly [number, number];
  device: string;
}

export interface EmbedBatch {
  id: number;
  images: (string | Uint8Array)[];
}

/** Why an image has no vector: what is wrong with its file, or that its features are not finite. */
export type ImageFailure = { unreadable: string } | "not finite";

/** Vectors [n, dim] of a batch's images, those aside for which there is a failure; or the failure of the whole batch. */
export type EmbedReply =
  | { facts: EmbedderFacts } | { loadFailed: SentError }
  | { id: number; vectors: Float32Array<ArrayBuffer>; failures: (ImageFailure | null)[] } | { id: number; failed: string };
