/** One process of a training that is disturbed: a tiny ViT on small images, slow enough that faults find it at work. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launched, launchVariables } from "../../../lib/config.js";
import { ProcessGroup, readPlacement } from "../../../lib/distributed/index.js";
import { EXIT_PEER_FAILED } from "../../../lib/distributed/launch/exitCodes.js";
import { holdLifeline } from "../../../lib/distributed/launch/lifeline.js";
import { VisionTransformer } from "../../../lib/models/index.js";
import { pretrain } from "../../../lib/train/pretrain.js";

export interface TraineeTask {
  data: string;
  out: string;
  /** Gets a file for each process that ever ran, called by its start, machine and rank. */
  processes: string;
  epochs: number;
  /** How long each step waits, in milliseconds. */
  paceMs: number;
}

async function train({ data, out, processes, epochs, paceMs }: TraineeTask): Promise<void> {
  const variables = launchVariables();
  const found = readPlacement(
    { worldSize: -1, rank: -1, distUrl: "env://", distBackend: "gloo" }, variables, { gpus: 0, device: "cpu" },
  );
  if (found.kind !== "member") throw new Error("there is no launcher");
  mkdirSync(processes, { recursive: true });
  const { RANK, TORCHELASTIC_RUN_ID, TORCHELASTIC_RESTART_COUNT } = variables;
  writeFileSync(join(processes, [TORCHELASTIC_RUN_ID, TORCHELASTIC_RESTART_COUNT, RANK].join("-")), String(process.pid));
  using group = await ProcessGroup.join(found.placement);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const { moco } = await pretrain({
    data, out, epochs, group, autoResume: true,
    encoder: (numClasses) => new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses, stopGradConv1: true }),
    arch: "vit_tiny", imageSize: 16, dim: 8, mlpDim: 16, temperature: 0.2, mCos: true, optimizer: "adamw", lr: 1e-3, weightDecay: 0.1,
    warmupEpochs: 1, batchSize: 12, seed: 7, threads: 1, workers: 1, device: "cpu", saveEverySteps: 7, keep: 2,
  }, { onStep: () => void Atomics.wait(pause, 0, 0, paceMs) });
  moco.dispose();
}

if (launched()) holdLifeline();
try {
  await train(JSON.parse(process.argv[2]!) as TraineeTask);
} catch (error) {
  const { name, message } = error as Error;
  process.stderr.write(`error: ${message}\n`);
  process.exitCode = name === "CollectiveError" ? EXIT_PEER_FAILED : 1;
}
