import type { MoCo } from "../../moco/index.js";
import { ResNet, VisionTransformer, type Encoder } from "../../models/index.js";
import { BatchNorm1d, Linear } from "../../nn/index.js";
import type { AnyModule } from "../../nn/index.js";
import { residualCost } from "./convolutionCost.js";
import { transformerCost } from "./transformerCost.js";
import { addCosts, type EncoderCost, type ViewCost } from "./viewCost.js";

/** What a network needs, whatever the batch. All of it is read off its layers. */
export interface NetworkCost {
  encoder: EncoderCost;
  /** Projector and predictor, of one view of one image. */
  heads: ViewCost;
  /** Of the query side: encoder, projector, predictor. */
  baseParameters: number;
  /** Those among them that get a gradient. */
  trainedParameters: number;
  /** Of the momentum encoder with its projector. */
  momentumParameters: number;
  /** Values of running statistics and the like, both sides. */
  bufferValues: number;
  /** Batch normalisations of one pass through the query side. */
  baseBatchNorms: number;
  /** Of one pass through the key side. */
  momentumBatchNorms: number;
  /** Channels of all of them together: what their statistics take. */
  batchNormChannels: number;
  /** Length of the encoder's features. */
  featureDim: number;
  /** Length of the contrasted features. */
  dim: number;
}

/** Multiplications and additions of one image's step: both views, forward and backward on the query side, forward on the key side. */
export function stepFlop({ encoder, heads }: NetworkCost): number {
  return 8 * (encoder.cost.flop + heads.flop);
}

/**
 * The same without heads and without first layers' gradients for the images: the arithmetic that docs/benchmarks.md counts.
 */
export function encoderStepFlop({ encoder }: NetworkCost): number {
  return 8 * encoder.cost.flop;
}

/** The costs of an encoder's layers. @throws TypeError for an encoder that is neither a ViT nor a ResNet */
function encoderCost(encoder: Encoder): EncoderCost {
  if (encoder instanceof VisionTransformer) return transformerCost(encoder);
  if (encoder instanceof ResNet) return residualCost(encoder);
  throw new TypeError(`the cost of a ${encoder.constructor.name} is not known; give a VisionTransformer or a ResNet`);
}

/** Costs of the whole network that a training step works with. */
export function networkCost(moco: MoCo): NetworkCost {
  const { baseEncoder, momentumEncoder, predictor } = moco;
  const count = (module: AnyModule, which: (trained: boolean) => boolean = () => true): number =>
    module.parameters().filter(({ requiresGrad }) => which(requiresGrad)).reduce((sum, { shape }) => sum + product(shape), 0);
  const encoder = encoderCost(baseEncoder);
  const [projectorCost, predictorCost] = [headCost(baseEncoder.head), headCost(predictor)];
  return {
    encoder,
    heads: addCosts(projectorCost.cost, predictorCost.cost),
    baseParameters: count(baseEncoder) + count(predictor),
    trainedParameters: count(moco, (trained) => trained),
    momentumParameters: count(momentumEncoder),
    bufferValues: moco.namedBuffers().reduce((sum, [, { shape }]) => sum + product(shape), 0),
    baseBatchNorms: encoder.batchNorms + projectorCost.batchNorms + predictorCost.batchNorms,
    momentumBatchNorms: encoder.batchNorms + projectorCost.batchNorms,
    batchNormChannels: moco.namedBuffers().filter(([name]) => name.endsWith("running_mean")).reduce((sum, [, { shape }]) => sum + product(shape), 0),
    featureDim: baseEncoder.featureDim,
    dim: predictor.layers.filter((layer) => layer instanceof Linear).at(-1)!.outFeatures,
  };
}

/** A head's linear layers keep their input; what normalisation reads and what ReLU leaves is kept too. */
function headCost(head: AnyModule): { cost: ViewCost; batchNorms: number } {
  let cost = addCosts();
  let batchNorms = 0;
  for (const [, layer] of head.namedModules()) {
    if (layer instanceof Linear) {
      cost = addCosts(cost, { flop: 2 * layer.inFeatures * layer.outFeatures, keptHalf: layer.inFeatures });
    } else if (layer instanceof BatchNorm1d) {
      cost = addCosts(cost, { keptHalf: layer.channels });
      batchNorms++;
    }
  }
  return { cost, batchNorms };
}

function product(shape: readonly number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}
