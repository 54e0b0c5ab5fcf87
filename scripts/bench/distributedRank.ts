// One rank of the benchmark of collectives: node distributedRank.js RANK RANKS PORT QUESTION
import { GradientAverager, ProcessGroup, synchronizeBatchNorm } from "../../lib/distributed/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { BatchNorm2d } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";

export interface RankQuestion {
  rounds: number;
  imageSize: number;
  batch: number;
  /** Sizes of all-reduces. */
  bytes: number[];
  archs: string[];
  channels: number[];
}

/** Milliseconds, one for each round. */
export interface RankAnswer {
  allReduce: number[][];
  step: { parameters: number; alone: number[]; overlapped: number[]; afterwards: number[] }[];
  syncBatchNorm: { local: number[]; synchronized: number[] }[];
}

const [rank, ranks, port] = process.argv.slice(2, 5).map(Number) as [number, number, number];
const question = JSON.parse(process.argv[5]!) as RankQuestion;
torch.setNumThreads(1);
torch.retainFreedMemory();

const group = await ProcessGroup.join({
  rank, worldSize: ranks, localRank: rank, localWorldSize: ranks, nodeRank: 0, masterAddress: "127.0.0.1", masterPort: port,
  backend: "gloo", externalStore: false, generation: "bench",
});

/** Times `fn` once per round after one unmeasured call; ranks begin together. */
function rounds(fn: () => void, calls = 1): number[] {
  const times: number[] = [];
  for (let round = 0; round <= question.rounds; round++) {
    group.barrier();
    const began = performance.now();
    for (let call = 0; call < calls; call++) torch.scope(fn);
    if (round > 0) times.push((performance.now() - began) / calls);
  }
  return times;
}

function measureStep(arch: string): RankAnswer["step"][number] {
  const { imageSize, batch } = question;
  torch.manualSeed(0n);
  using moco = createMoCo({ encoder: arch, imageSize, stopGradConv1: true });
  synchronizeBatchNorm(moco, group);
  using averager = new GradientAverager(moco.parameters(), group);
  const [x1, x2] = [0, 1].map(() => torch.randn([batch, 3, imageSize, imageSize])) as [torch.Tensor, torch.Tensor];
  const backward = (before: () => void, after: () => void): void => {
    moco.zeroGrad();
    const loss = moco.forward(x1, x2, 0.99);
    before();
    loss.backward();
    after();
  };
  const nothing = (): void => {};
  const parameters = moco.parameters().filter((each) => each.requiresGrad).reduce((sum, each) => sum + each.numel(), 0);
  const alone = rounds(() => backward(nothing, nothing));
  const overlapped = rounds(() => backward(() => averager.prepare(), nothing));
  const afterwards = rounds(() => backward(nothing, () => averager.average()));
  x1.dispose();
  x2.dispose();
  return { parameters, alone, overlapped, afterwards };
}

function measureBatchNorm(channels: number): RankAnswer["syncBatchNorm"][number] {
  using norm = new BatchNorm2d(channels);
  using x = torch.randn([32, channels, 14, 14]).requiresGrad_();
  const once = (): void => void norm.forward(x).sum().backward();
  const local = rounds(once, 5);
  synchronizeBatchNorm(norm, group);
  return { local, synchronized: rounds(once, 5) };
}

const answer: RankAnswer = {
  allReduce: question.bytes.map((bytes) => {
    using tensor = torch.zeros([bytes / 4]);
    return rounds(() => void group.allReduce_(tensor), bytes <= 65536 ? 100 : 5);
  }),
  step: question.archs.map(measureStep),
  syncBatchNorm: question.channels.map(measureBatchNorm),
};
group.barrier();
process.send!(answer, () => group.close());
