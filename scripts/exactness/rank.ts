/** One process of an exactness run: trains each case with the others, and rank 0 writes losses and weights. */
import { join } from "node:path";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { ProcessGroup, type Placement } from "../../lib/distributed/index.js";
import type { MoCo } from "../../lib/moco/index.js";
import * as torch from "../../lib/torch/index.js";
import { pretrain } from "../../lib/train/pretrain.js";
import { commonOptions, exactnessCases, type CaseName } from "./cases.js";
import type { RankJob } from "./runRanks.js";

const { placement, data, out, precisions, cases, stopAfter } = JSON.parse(process.argv[2]!) as RankJob & { placement: Placement | null };

torch.setNumThreads(1);
using group = placement === null ? undefined : await ProcessGroup.join(placement);
for (const name of cases) for (const precision of precisions) await train(name, precision);

async function train(name: CaseName, precision: RankJob["precisions"][number]): Promise<void> {
  const losses: number[] = [];
  let initial: Map<string, torch.Tensor> | null = null;
  const options = { ...commonOptions, ...exactnessCases[name], arch: name, data, precision, stopAfter, group };
  const { moco } = await pretrain(options, { onStart: (_, network) => void (initial = copyOf(network)), onStep: ({ loss }) => void losses.push(loss) });
  try {
    if ((group?.rank ?? 0) === 0) await writeCheckpoint(join(out, fileOf(name, precision)), { losses, initial, final: moco.stateDict() });
  } finally {
    moco.dispose();
    for (const tensor of (initial as Map<string, torch.Tensor> | null)?.values() ?? []) tensor.dispose();
  }
}

function copyOf(moco: MoCo): Map<string, torch.Tensor> {
  return torch.noGrad(() => new Map([...moco.stateDict()].map(([key, tensor]) => [key, torch.keep(tensor.clone())])));
}

function fileOf(name: CaseName, precision: string): string {
  return `${name}-${precision}.pth`;
}
