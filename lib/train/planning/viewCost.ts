/**
 * What one view of one image costs in a part of a network. Sizes are counted in values, not bytes: under autocast some are float32, the
 * others of the narrower type.
 */
export interface ViewCost {
  /** Multiplications and additions of the forward pass. */
  flop: number;
  /** Values kept for the backward pass that stay float32 in any precision. */
  keptFull: number;
  /** Values kept for the backward pass in the precision of matrix products. */
  keptHalf: number;
  /** Bytes kept in any precision, such as indices. */
  keptBytes: number;
}

export const nothing: ViewCost = { flop: 0, keptFull: 0, keptHalf: 0, keptBytes: 0 };

export function addCosts(...costs: readonly Partial<ViewCost>[]): ViewCost {
  const sum = { ...nothing };
  for (const { flop = 0, keptFull = 0, keptHalf = 0, keptBytes = 0 } of costs) {
    sum.flop += flop;
    sum.keptFull += keptFull;
    sum.keptHalf += keptHalf;
    sum.keptBytes += keptBytes;
  }
  return sum;
}

/** Values that lie in memory at once while a part runs without a graph, as the momentum encoder does. */
export interface PassMemory {
  full: number;
  half: number;
}

/** Of an encoder, for one view of one image. */
export interface EncoderCost {
  cost: ViewCost;
  /** Most that a forward pass without a graph needs at once. */
  pass: PassMemory;
  /** Whether both views go through as one batch, so that a pass without a graph holds both. */
  viewsTogether: boolean;
  /** Batch normalisations that see images. */
  batchNorms: number;
  /** Layers that compute something: each has kernels to launch. */
  layers: number;
}
