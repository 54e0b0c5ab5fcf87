import { communicationOf, type Cluster, type StepCommunication } from "./communication.js";
import { gpuStepSeconds } from "./gpuStepTime.js";
import { planMemory, stateBytes, type MemorySetting } from "./memoryPlan.js";
import type { NetworkCost } from "./networkCost.js";

/** A training on many GPUs, and the pictures it reads. */
export interface ClusterRun {
  cluster: Cluster;
  network: NetworkCost;
  /** Images of a step over all ranks. */
  batch: number;
  images: number;
  epochs: number;
  setting: Pick<MemorySetting, "imageSize" | "precision" | "optimizer">;
  /** Of one image on the disk. */
  imageBytes: number;
  /** Images a second whose two views one core makes. */
  imagesPerCoreSecond: number;
}

export interface ClusterPlan {
  /** Images of one rank. */
  localBatch: number;
  computeSeconds: number;
  communication: StepCommunication;
  stepSeconds: number;
  imagesPerSecond: number;
  /** Of what the ranks would do without waiting for each other. */
  efficiency: number;
  /** Of one GPU. */
  gpuBytes: number;
  /** Of both similarity matrices of a rank. */
  logitBytes: number;
  /** That loading must have for each GPU. */
  coresPerGpu: number;
  /** That each node reads. */
  nodeReadBytesPerSecond: number;
  stepsPerEpoch: number;
  epochSeconds: number;
  trainingSeconds: number;
  checkpointBytes: number;
}

/** A step and a training on a cluster that was not tried: what was measured on one GPU, and published figures for the links between. */
export function planCluster(run: ClusterRun): ClusterPlan {
  const { cluster, network, batch, images, epochs } = run;
  const localBatch = batch / cluster.ranks;
  const setting = { ...run.setting, batch: localBatch, ranks: cluster.ranks, chunk: null, augment: "cpu" as const, saveInBackground: true };
  const computeSeconds = gpuStepSeconds(network, cluster.gpu, setting);
  const communication = communicationOf(network, cluster, localBatch, computeSeconds);
  const stepSeconds = computeSeconds + communication.exposed;
  const imagesPerSecond = batch / stepSeconds;
  const stepsPerEpoch = Math.floor(images / batch);
  const perNode = Math.min(cluster.gpu.gpusPerNode, cluster.ranks);
  return {
    localBatch, computeSeconds, communication, stepSeconds, imagesPerSecond, efficiency: computeSeconds / stepSeconds,
    gpuBytes: planMemory(network, { ...setting, onGpu: true }).training.bytes,
    logitBytes: 2 * 4 * localBatch * batch,
    coresPerGpu: imagesPerSecond / cluster.ranks / run.imagesPerCoreSecond,
    nodeReadBytesPerSecond: (imagesPerSecond / cluster.ranks) * perNode * run.imageBytes,
    stepsPerEpoch, epochSeconds: stepsPerEpoch * stepSeconds, trainingSeconds: epochs * stepsPerEpoch * stepSeconds,
    checkpointBytes: stateBytes(network, run.setting.optimizer).checkpoint,
  };
}

export interface Failures {
  /** Between failures of the whole run. */
  meanSecondsBetween: number;
  /** That a checkpoint holds the training up. */
  saveSeconds: number;
  /** From a failure to the first new step. */
  restartSeconds: number;
}

export interface CheckpointInterval {
  seconds: number;
  /** Share of all time that goes into saving, into work that is done again, and into starting again. */
  lostShare: number;
}

/**
 * How often to save: Young's first-order optimum (1974), √(2 · save · MTBF), and what is lost with it: saving, half an interval of work for each
 * failure, and the restart.
 */
export function checkpointInterval({ meanSecondsBetween, saveSeconds, restartSeconds }: Failures): CheckpointInterval {
  const seconds = Math.sqrt(2 * saveSeconds * meanSecondsBetween);
  return { seconds, lostShare: lostShare({ meanSecondsBetween, saveSeconds, restartSeconds }, seconds) };
}

/** What is lost with checkpoints every so many seconds. */
export function lostShare({ meanSecondsBetween, saveSeconds, restartSeconds }: Failures, seconds: number): number {
  return saveSeconds / seconds + (seconds / 2 + restartSeconds) / meanSecondsBetween;
}
