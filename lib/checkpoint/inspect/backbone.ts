import type { Tensor } from "../../torch/index.js";
import { backboneOf, type RecognisedCheckpoint } from "../encoder/recognise.js";

/**
 * Runs `use` with the encoder's tensors under our names, and frees those of them that were made for it: the file's own belong to its reader.
 *
 * @throws ConvertError where the checkpoint holds no encoder
 */
export function withBackbone<T>(recognised: RecognisedCheckpoint, use: (backbone: ReadonlyMap<string, Tensor>) => T): T {
  const own = new Set(recognised.state.values());
  const backbone = backboneOf(recognised);
  try {
    return use(backbone);
  } finally {
    for (const tensor of backbone.values()) if (!own.has(tensor)) tensor.dispose();
  }
}
