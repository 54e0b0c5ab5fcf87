import type { LayerNorms } from "../../report/index.js";

const ENCODER = "base_encoder.";
/** A ViT's patch projection or convolutional stem, a ResNet's first convolution with its norm. */
const STEM = /^(patch_embed|conv1|bn1)\./;
/** A ViT's block, or a block of a ResNet's stage. */
const BLOCK = /^(blocks\.\d+|layer\d\.\d+)\./;
const PROJECTOR = /^(head|fc)\./;

/**
 * Norms of gradients, layer by layer from the images to the loss, from those of MoCo's single parameters.
 *
 * Of a ViT, class token and last norm belong to no layer: they are a vector each.
 */
export function layerNorms(norms: ReadonlyMap<string, number>): LayerNorms {
  const squares = new Map<string, number>();
  for (const [name, norm] of norms) {
    const layer = layerOf(name);
    if (layer !== null) squares.set(layer, (squares.get(layer) ?? 0) + norm * norm);
  }
  const of = (layer: string): number | null => {
    const square = squares.get(layer);
    return square === undefined ? null : Math.sqrt(square);
  };
  const blocks = [...squares.keys()].filter((layer) => BLOCK.test(`${layer}.`));
  return { stem: of("stem"), blocks: blocks.map((layer) => of(layer)!), projector: of("projector"), predictor: of("predictor") };
}

function layerOf(name: string): string | null {
  if (name.startsWith("predictor.")) return "predictor";
  if (!name.startsWith(ENCODER)) return null;
  const inside = name.slice(ENCODER.length);
  if (STEM.test(inside)) return "stem";
  if (PROJECTOR.test(inside)) return "projector";
  return BLOCK.exec(inside)?.[1] ?? null;
}
