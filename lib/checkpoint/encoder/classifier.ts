import type { Tensor } from "../../torch/index.js";
import { detectLayout } from "./layouts/index.js";
import type { RecognisedCheckpoint } from "./recognise.js";

/** A linear layer that tells classes by features. */
export interface Classifier {
  /** [classes, features] */
  weight: Tensor;
  /** [classes] */
  bias: Tensor | undefined;
}

/** The classifier of a linear probe, a fine-tuned encoder or a model of another library; null where the file has none. */
export function classifierOf({ kind, state }: RecognisedCheckpoint): Classifier | null {
  if (kind === "moco-v3") return null; // what stands in its place is the projector
  const layout = detectLayout(state.keys());
  if (layout === null) return null;
  // They stand behind the encoder's prefix or, in Hugging Face's files, without one.
  const keys = layout.keyMap.layout.classifiers.flatMap((key) => [layout.prefix + key, key]);
  const key = keys.find((each) => state.get(each)?.ndim === 2);
  if (key === undefined) return null;
  return { weight: state.get(key)!, bias: state.get(key.replace(/weight$/, "bias")) };
}
