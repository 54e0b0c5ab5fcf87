import { BatchNorm2d, Conv2d, type AnyModule } from "../../nn/index.js";
import { BasicBlock, Bottleneck, type ConvStem, type ResNet } from "../../models/index.js";
import { addCosts, type EncoderCost, type ViewCost } from "./viewCost.js";

/** Channels, height and width of what passes between layers. */
export interface Extent {
  channels: number;
  height: number;
  width: number;
}

export const valuesIn = ({ channels, height, width }: Extent): number => channels * height * width;

/** Index of a maximum in pooling: int64. */
const INDEX_BYTES = 8;

/** What a convolution makes of an extent, and its arithmetic. */
export function convolve(layer: Conv2d, { height, width }: Extent): { out: Extent; flop: number } {
  const [outChannels, inPerGroup, kernelHeight, kernelWidth] = layer.weight.shape as [number, number, number, number];
  const out = {
    channels: outChannels,
    height: Math.floor((height + 2 * layer.padding[0] - kernelHeight) / layer.stride[0]) + 1,
    width: Math.floor((width + 2 * layer.padding[1] - kernelWidth) / layer.stride[1]) + 1,
  };
  return { out, flop: 2 * valuesIn(out) * inPerGroup * kernelHeight * kernelWidth };
}

/**
 * Convolution, batch normalisation and ReLU one after the other. Kept are the convolution's output, which the normalisation's backward pass
 * needs, and the normalisation's, which ReLU overwrites and the next layer reads.
 *
 * @param kept whether somebody reads the last output in the backward pass
 */
function convolutionUnit(layer: Conv2d, from: Extent, kept = true): { out: Extent; cost: ViewCost } {
  const { out, flop } = convolve(layer, from);
  return { out, cost: addCosts({ flop, keptHalf: (kept ? 2 : 1) * valuesIn(out) }) };
}

/** The stem of four convolutions before a ViT, `[3, H, W]` to patches. */
export function convStemCost(stem: ConvStem): EncoderCost {
  const image: Extent = { channels: 3, height: stem.imageSize[0], width: stem.imageSize[1] };
  // The images once more, their channels last.
  let cost = addCosts({ keptHalf: valuesIn(image) });
  let extent = image;
  let most = 0;
  const convolutions = stem.proj.layers.filter((layer) => layer instanceof Conv2d);
  convolutions.forEach((layer, i) => {
    const before = valuesIn(extent);
    const last = i === convolutions.length - 1;
    const unit = last ? { out: convolve(layer, extent).out, cost: addCosts({ flop: convolve(layer, extent).flop }) } : convolutionUnit(layer, extent);
    extent = unit.out;
    most = Math.max(most, before + 2 * valuesIn(extent));
    cost = addCosts(cost, unit.cost);
  });
  return {
    cost, pass: { full: valuesIn(image), half: most }, viewsTogether: false,
    batchNorms: countBatchNorms(stem), layers: countLayers(stem),
  };
}

/** A residual network without its head. */
export function residualCost(network: ResNet): EncoderCost {
  const [height, width] = network.imageSize;
  const image: Extent = { channels: 3, height, width };
  const stem = convolutionUnit(network.conv1, image);
  const pooled: Extent = { channels: stem.out.channels, height: Math.ceil(stem.out.height / 2), width: Math.ceil(stem.out.width / 2) };
  let cost = addCosts({ keptHalf: valuesIn(image) }, stem.cost, { keptHalf: valuesIn(pooled), keptBytes: INDEX_BYTES * valuesIn(pooled) });
  // Without a graph, what `forwardFeatures` has named stays until it returns, and a block's own parts until the block does.
  let held = 2 * valuesIn(stem.out) + valuesIn(pooled);
  let most = held;
  let extent = pooled;
  for (const stage of network.stages) {
    for (const block of stage.layers) {
      if (!(block instanceof BasicBlock || block instanceof Bottleneck)) throw new TypeError(`a stage of a ResNet has a ${block.constructor.name}`);
      const unit = blockCost(block, extent);
      most = Math.max(most, held + valuesIn(extent) + unit.pass);
      cost = addCosts(cost, unit.cost);
      extent = unit.out;
    }
    held += valuesIn(extent);
  }
  return {
    cost, pass: { full: valuesIn(image), half: most }, viewsTogether: false,
    batchNorms: countBatchNorms(network, network.head), layers: countLayers(network, network.head),
  };
}

function blockCost(block: BasicBlock | Bottleneck, from: Extent): { out: Extent; cost: ViewCost; pass: number } {
  const convolutions = block instanceof Bottleneck ? [block.conv1, block.conv2, block.conv3] : [block.conv1, block.conv2];
  let cost = addCosts();
  let extent = from;
  let pass = 0;
  for (const layer of convolutions) {
    const unit = convolutionUnit(layer, extent);
    cost = addCosts(cost, unit.cost);
    extent = unit.out;
    pass += 2 * valuesIn(extent);
  }
  const shortcut = block.downsample?.layers.find((layer) => layer instanceof Conv2d);
  if (shortcut !== undefined) {
    const unit = convolutionUnit(shortcut, from, false); // its normalised output is added, and not read again
    cost = addCosts(cost, unit.cost);
    pass += 2 * valuesIn(unit.out);
  }
  return { out: extent, cost, pass };
}

function countBatchNorms(module: AnyModule, without?: AnyModule): number {
  return leavesOf(module, without).filter((each) => each instanceof BatchNorm2d).length;
}

/** Modules without parts of their own. */
export function countLayers(module: AnyModule, without?: AnyModule): number {
  return leavesOf(module, without).length;
}

function leavesOf(module: AnyModule, without?: AnyModule): AnyModule[] {
  const left = new Set(without === undefined ? [] : [...without.namedModules()].map(([, each]) => each));
  return [...module.namedModules()].map(([, each]) => each).filter((each) => each.children.size === 0 && !left.has(each));
}
