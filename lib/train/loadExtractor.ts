import { FeatureExtractor, type FeatureOptions } from "./features.js";
import { loadFrozenEncoder } from "./frozenEncoder.js";
import { requirePrecision, resolveDevice } from "./options.js";

export interface LoadExtractorOptions extends FeatureOptions {
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number;
}

/**
 * Reads the encoder out of a checkpoint of any kind that `moco convert` knows, or a run's folder, and freezes it on a device; without one
 * given, on the first GPU, where there is one. The caller disposes of its `encoder`.
 *
 * @throws OptionError; CheckpointNotFoundError, CheckpointError, ConvertError, ModelConfigError or StateDictError; FeatureError
 */
export async function loadExtractor(path: string, options: LoadExtractorOptions = {}): Promise<FeatureExtractor> {
  const device = resolveDevice(options.device);
  requirePrecision(options.precision ?? "fp32", device);
  const { encoder } = await loadFrozenEncoder(path, { numHeads: options.numHeads, layer: options.layer, device });
  try {
    return new FeatureExtractor(encoder, { ...options, device });
  } catch (error) {
    encoder.dispose();
    throw error;
  }
}
