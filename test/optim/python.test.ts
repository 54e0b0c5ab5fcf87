/** States that PyTorch's optimisers and upstream's LARS save, continued here as they continue them; needs MOCO_TEST_PYTHON. */
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../lib/checkpoint/index.js";
import { AdamW, LARS, SGD, type Optimizer } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { maxAbsolute } from "../support/digest.js";
import { runPython, testPython, testUpstream } from "../support/python.js";

/** Trains [2, 3] and [3] for three steps, saves, trains two more, and prints the parameters and gradients. The last parameter is frozen. */
const TRAIN = `
import json, sys, torch
path, name, options, upstream = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
sys.path.insert(0, upstream)
if name == "LARS":
    from moco.optimizer import LARS as kind
else:
    kind = getattr(torch.optim, name)
torch.manual_seed(0)
params = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64), requires_grad=i < 2) for i, s in enumerate([(2, 3), (3,), (2,)])]
optimizer = kind(params, **options)
gradients = torch.randn(5, 9, dtype=torch.float64)
def step(i):
    for p, g in zip(params, gradients[i].split([6, 3])): p.grad = g.view_as(p).clone()
    optimizer.step()
for i in range(3): step(i)
torch.save({"params": [p.detach().clone() for p in params], "optimizer": optimizer.state_dict()}, path)
for i in range(3, 5): step(i)
print(json.dumps({"gradients": gradients.tolist(), "after": [p.flatten().tolist() for p in params]}))
`;
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

const folder = temporaryFolder("optim");
expectNoTensorsLeft();

const kinds: Record<string, (params: Tensor[]) => Pick<Optimizer, "loadStateDict" | "step" | "dispose" | "paramGroups">> = {
  AdamW: (params) => new AdamW(params), SGD: (params) => new SGD(params), LARS: (params) => new LARS(params),
};
const cases: [string, object][] = [
  ["AdamW", { lr: 0.1, weight_decay: 0.2 }],
  ["AdamW", { lr: 0.1, amsgrad: true, betas: [0.5, 0.9], foreach: true }],
  ["AdamW", { lr: 0.1, maximize: true, fused: true, eps: 1e-3 }],
  ["SGD", { lr: 0.1, momentum: 0.9, weight_decay: 0.1 }],
  ["SGD", { lr: 0.1, momentum: 0.9, nesterov: true }],
  ["SGD", { lr: 0.1, momentum: 0.9, dampening: 0.5, maximize: true }],
  ["SGD", { lr: 0.1 }],
  ...(testUpstream === null ? [] : [["LARS", { lr: 0.1, weight_decay: 0.1, momentum: 0.8, trust_coefficient: 0.01 }] satisfies [string, object]]),
];

(testPython === null ? describe.skip : describe)("saved by Python, continued here", () => {
  test.each(cases)("%s %j", async (name, options) => {
    const path = join(folder, "state.pth");
    const { gradients, after } = runPython<{ gradients: number[][]; after: number[][] }>(TRAIN, [
      path, name, JSON.stringify(options), testUpstream ?? "",
    ]);
    const saved = await readCheckpoint<{ params: Tensor[]; optimizer: object }>(path);
    const params = saved.params;
    for (const param of params.slice(0, 2)) param.requiresGrad_();
    const optimizer = kinds[name]!(params); // its own options are the saved ones'
    optimizer.loadStateDict(saved.optimizer);
    for (const step of [3, 4]) {
      torch.scope(() => {
        params[0]!.grad = torch.tensor(gradients[step]!.slice(0, 6), [2, 3], { dtype: "float64" });
        params[1]!.grad = torch.tensor(gradients[step]!.slice(6), [3], { dtype: "float64" });
      });
      optimizer.step();
    }
    params.forEach((param, i) => expect(maxAbsolute(param.data() as Float64Array, after[i]!)).toBeLessThan(1e-12));
    for (const param of params) param.grad = null;
    optimizer.dispose();
    disposeTensors(saved);
  }, 60_000);
});
