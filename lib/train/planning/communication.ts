import type { GpuType } from "./gpuTypes.js";
import type { NetworkCost } from "./networkCost.js";

/** Processes that train together, one for each GPU. */
export interface Cluster {
  ranks: number;
  gpu: GpuType;
}

/** Latencies in seconds: a collective's own, a step between GPUs of a node, and one between nodes. */
interface Latency {
  base: number;
  node: number;
  network: number;
}

/**
 * The constants with which NVIDIA's NCCL predicts its own collectives (src/graph/tuning.cc, protocol LL, for small messages); a node's steps
 * take 1.8 times as long where there are several nodes. Not measured here.
 */
const TREE: Latency = { base: 4.4e-6, node: 0.52e-6, network: 5.0e-6 };
const RING: Latency = { base: 3.6e-6, node: 0.47e-6, network: 2.7e-6 };
const SEVERAL_NODES = 1.8;
/** Share of a link's published rate that large messages reach: NCCL takes 92 % for its LL128 protocol. */
const LINK_SHARE = 0.92;

function nodesOf({ ranks, gpu }: Cluster): { nodes: number; perNode: number; nodeFactor: number } {
  const nodes = Math.ceil(ranks / gpu.gpusPerNode);
  return { nodes, perNode: ranks / nodes, nodeFactor: nodes > 1 ? SEVERAL_NODES : 1 };
}

/** The slowest link on a ring through all ranks. */
function linkBandwidth(cluster: Cluster): number {
  return LINK_SHARE * (nodesOf(cluster).nodes > 1 ? cluster.gpu.networkBandwidth : cluster.gpu.nvlinkBandwidth);
}

/** Seconds in which all ranks sum a message of so many bytes: up and down a tree, each byte over the slowest link twice. */
export function allReduceSeconds(bytes: number, cluster: Cluster): number {
  const { ranks } = cluster;
  if (ranks === 1) return 0;
  const { nodes, perNode, nodeFactor } = nodesOf(cluster);
  const latency = TREE.base + 2 * ((perNode - 1) * nodeFactor * TREE.node + Math.log2(nodes) * TREE.network);
  return latency + (2 * (ranks - 1) * bytes) / ranks / linkBandwidth(cluster);
}

/** Seconds in which each rank gets the messages of all, of so many bytes each: round a ring, which is how NCCL gathers. */
export function allGatherSeconds(bytes: number, cluster: Cluster): number {
  const { ranks } = cluster;
  if (ranks === 1) return 0;
  const { nodes, nodeFactor } = nodesOf(cluster);
  const between = nodes - 1;
  const latency = RING.base + (ranks - 1 - between) * nodeFactor * RING.node + between * RING.network;
  return latency + ((ranks - 1) * bytes) / linkBandwidth(cluster);
}

/** The collectives of a training step. */
export interface StepCollectives {
  /** Gathers of statistics in forward passes, one for each batch normalisation, view and encoder. */
  normGathers: number;
  /** Sums of their gradients, on the query side. */
  normReductions: number;
  /** Of keys: one for each view. */
  keyGathers: number;
  /** Bytes of gradients that are averaged. */
  gradientBytes: number;
  /** Messages that they are averaged in. */
  buckets: number;
}

const FLOAT = 4;
/** Of gradients, as PyTorch's: 25 MiB. */
const BUCKET_BYTES = 25 * 2 ** 20;

export function collectivesOf(network: NetworkCost): StepCollectives {
  const views = 2;
  const gradientBytes = FLOAT * network.trainedParameters;
  return {
    normGathers: views * (network.baseBatchNorms + network.momentumBatchNorms), normReductions: views * network.baseBatchNorms,
    keyGathers: views, gradientBytes, buckets: Math.ceil(gradientBytes / BUCKET_BYTES),
  };
}

/** Seconds of a step's communication. */
export interface StepCommunication {
  gradients: number;
  /** Of the gradients, what backward cannot hide. */
  gradientsExposed: number;
  batchNorm: number;
  keys: number;
  /** What a step becomes longer by. */
  exposed: number;
}

/** Share of a step's computing that is the backward pass: twice a forward pass, of four. */
const BACKWARD_SHARE = 0.5;

/**
 * What a step waits for the others. Gradients go out while backward computes and are waited for where they take longer, at least for the last
 * bucket; statistics and keys are waited for each time.
 *
 * @param batch images of one rank
 * @param computeSeconds of its step
 */
export function communicationOf(network: NetworkCost, cluster: Cluster, batch: number, computeSeconds: number): StepCommunication {
  if (cluster.ranks === 1) return { gradients: 0, gradientsExposed: 0, batchNorm: 0, keys: 0, exposed: 0 };
  const { normGathers, normReductions, keyGathers, gradientBytes, buckets } = collectivesOf(network);
  const bucket = allReduceSeconds(gradientBytes / buckets, cluster);
  const gradients = buckets * bucket;
  const gradientsExposed = Math.max(bucket, gradients - BACKWARD_SHARE * computeSeconds);
  // Mean, deviation and count of each channel; in backward two sums.
  const channels = network.batchNormChannels / (network.baseBatchNorms + network.momentumBatchNorms);
  const batchNorm =
    normGathers * allGatherSeconds(FLOAT * (2 * channels + 1), cluster) + normReductions * allReduceSeconds(FLOAT * 2 * channels, cluster);
  const keys = keyGathers * allGatherSeconds(FLOAT * network.dim * batch, cluster);
  return { gradients, gradientsExposed, batchNorm, keys, exposed: gradientsExposed + batchNorm + keys };
}
