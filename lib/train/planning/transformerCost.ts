import { ConvStem, PatchEmbed, type VisionTransformer } from "../../models/index.js";
import { convStemCost, countLayers } from "./convolutionCost.js";
import { addCosts, type EncoderCost, type ViewCost } from "./viewCost.js";

/** Mean and reciprocal deviation of each token in a LayerNorm, float32. */
const STATISTICS = 2;

/**
 * A ViT without its head. Kept for the backward pass in one block, in values of T tokens of width D: its input and the sum after attention
 * (float32 in any precision), both normalised, queries, keys and values, attention's output, and the MLP's hidden layer before and after
 * GELU. The last block computes the class token only; the arithmetic counted is that of the whole block all the same, as is usual.
 */
export function transformerCost(network: VisionTransformer): EncoderCost {
  const dim = network.featureDim;
  const blocks = network.blocks.layers;
  const [rows, columns] = network.patchEmbed.gridSize;
  const patches = rows * columns;
  const tokens = patches + 1;
  const hidden = blocks[0]!.mlp.fc1.outFeatures;
  const block = blockCost(tokens, dim, hidden, network.numHeads);
  const last: ViewCost = { flop: block.flop, keptFull: tokens * dim + STATISTICS * tokens, keptHalf: 3 * tokens * dim, keptBytes: 0 };
  const stem = stemCost(network, patches);

  // Without a graph a block holds its input, both sums and both normalised inputs, attention's and the MLP's output, and the hidden layer twice.
  const inBlock = { full: 4 * tokens * dim, half: 2 * tokens * dim + 2 * tokens * hidden };
  return {
    cost: addCosts(stem.cost, ...Array.from({ length: blocks.length - 1 }, () => block), last),
    pass: inBlock, viewsTogether: true, batchNorms: stem.batchNorms,
    layers: countLayers(network, network.head),
  };
}

function blockCost(tokens: number, dim: number, hidden: number, heads: number): ViewCost {
  const products = 2 * tokens * dim * (4 * dim + 2 * hidden); // queries, keys, values, projection; both layers of the MLP
  const attention = 4 * tokens * tokens * dim; // q kᵀ and the weighted sum
  return {
    flop: products + attention,
    keptFull: 2 * tokens * dim + 2 * STATISTICS * tokens + heads * tokens, // the sum of exponentials of each head and token
    keptHalf: 6 * tokens * dim + 2 * tokens * hidden,
    keptBytes: 0,
  };
}

function stemCost(network: VisionTransformer, patches: number): Omit<EncoderCost, "pass" | "layers"> {
  const { patchEmbed } = network;
  const dim = network.featureDim;
  // Both encoders may read the same tokens, which stay to the end of a step's forward passes.
  const shared = { keptHalf: patches * dim };
  if (patchEmbed instanceof ConvStem) return { ...convStemCost(patchEmbed), cost: addCosts(convStemCost(patchEmbed).cost, shared) };
  if (!(patchEmbed instanceof PatchEmbed)) throw new TypeError(`the cost of a ${patchEmbed.constructor.name} is not known`);
  const pixels = 3 * patchEmbed.patchSize ** 2;
  const flop = 2 * patches * pixels * dim;
  const read = patchEmbed.frozen ? 0 : patches * pixels; // what the projection's gradient needs
  return { cost: addCosts({ flop, keptHalf: read }, shared), viewsTogether: true, batchNorms: 0 };
}
