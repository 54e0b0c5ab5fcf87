import type { Encoder } from "../../models/index.js";
import * as torch from "../../torch/index.js";
import { readEncoder } from "../initialWeights.js";

/** An encoder that should be frozen is not what it was. */
export class FrozenWeightsError extends Error {
  override readonly name = "FrozenWeightsError";
}

/**
 * Makes sure that a linear probe has left its encoder as it is in the checkpoint that it began with: weights, and statistics of BatchNorm.
 *
 * @param path what `readEncoder` reads
 * @throws FrozenWeightsError that names the first tensor which is not the same to the bit
 */
export async function requireFrozen(encoder: Encoder, path: string): Promise<void> {
  using read = await readEncoder(path);
  for (const [key, tensor] of encoder.stateDict()) {
    if (key.startsWith(`${encoder.headKey}.`)) continue;
    const before = read.backbone.get(key);
    const same = before !== undefined && torch.scope(() => torch.equal(tensor.to("cpu"), before.to("cpu").to(tensor.dtype)));
    if (same) continue;
    throw new FrozenWeightsError(
      `${key} is not as in ${path}, and a linear classifier must not change its encoder; if the run was resumed, give the --pretrained ` +
        "that it began with",
    );
  }
}
