import { ResNet, VisionTransformer, type Encoder } from "../../models/index.js";
import type { Tensor } from "../../torch/index.js";

/** Parameters that share weight decay and learning rate, as optimisers take them. */
export interface ParameterGroup {
  params: Tensor[];
  weightDecay: number;
  /** Share of the learning rate. Absent where all groups have the same rate. */
  lrScale?: number;
}

/** Of a ViT; DeiT's recipes do not decay them. */
const UNDECAYED = ["cls_token", "pos_embed"];

/**
 * Groups an encoder's parameters for fine-tuning as DeiT does: no weight decay for tensors of one dimension (biases, norms), the class
 * token and the positions.
 *
 * With a `layerDecay` below 1 the learning rate falls from the head down by that factor a layer (Clark et al., ELECTRA, 2020; BEiT and
 * MAE): a ViT's class token, positions and patch projection are layer 0, its blocks 1 to `depth`, final norm and head the last one at the
 * full rate; of a ResNet the stem is layer 0 and each of the four stages one.
 *
 * Groups are in the order in which they first occur, without layers the undecayed one first (timm's order, which numbers an optimiser's
 * saved state).
 *
 * @example new AdamW(parameterGroups(encoder, { weightDecay: 0.05, layerDecay: 0.65 }), { lr: 1e-3 })
 */
export function parameterGroups(
  encoder: Encoder, { weightDecay, layerDecay = 1 }: { weightDecay: number; layerDecay?: number },
): ParameterGroup[] {
  const layers = layerDecay < 1;
  const groups = new Map<string, ParameterGroup>();
  if (!layers) groups.set("0 undecayed", { params: [], weightDecay: 0 });
  for (const [name, parameter] of encoder.namedParameters()) {
    const decays = weightDecay > 0 && parameter.ndim > 1 && !UNDECAYED.includes(name);
    const layer = layers ? layerOf(encoder, name) : 0;
    const key = `${layer} ${decays ? "decayed" : "undecayed"}`;
    let group = groups.get(key);
    if (group === undefined) {
      group = { params: [], weightDecay: decays ? weightDecay : 0 };
      if (layers) group.lrScale = layerDecay ** (layerCount(encoder) - layer);
      groups.set(key, group);
    }
    group.params.push(parameter);
  }
  return [...groups.values()].filter(({ params }) => params.length > 0);
}

/** Number of the layer that stands above all, with the head. */
function layerCount(encoder: Encoder): number {
  return (encoder instanceof VisionTransformer ? encoder.blocks.layers.length : encoder instanceof ResNet ? encoder.stages.length : 0) + 1;
}

function layerOf(encoder: Encoder, name: string): number {
  const inside = /^(?:blocks\.(\d+)|layer(\d+))\./.exec(name);
  if (inside !== null) return inside[1] === undefined ? Number(inside[2]) : Number(inside[1]) + 1;
  const atBottom = /^(cls_token$|pos_embed$|patch_embed\.|conv1\.|bn1\.)/.test(name);
  return atBottom ? 0 : layerCount(encoder);
}
