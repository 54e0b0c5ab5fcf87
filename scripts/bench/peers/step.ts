// Our side of the step benchmark: one line of input, one training step.
import { createInterface } from "node:readline";
import { createMoCo } from "../../../lib/moco/index.js";
import { AdamW, LARS } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";

const { arch, optimizer: rule, stopGradConv1, batch, imageSize, threads } = JSON.parse(process.argv[2] as string) as {
  arch: string; optimizer: "adamw" | "lars"; stopGradConv1: boolean; batch: number; imageSize: number; threads: number;
};

torch.setNumThreads(threads);
torch.retainFreedMemory();
torch.manualSeed(0);
const moco = createMoCo({ encoder: arch, stopGradConv1, temperature: 0.2 });
const parameters = moco.parameters();
const optimizer = rule === "adamw" ? new AdamW(parameters, { lr: 1e-4, weightDecay: 0.1 }) : new LARS(parameters, { lr: 0.1, weightDecay: 1e-6 });
const views = [0, 1].map(() => torch.randn([batch, 3, imageSize, imageSize]));

for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now();
  const loss = torch.scope(() => {
    const value = moco.forward(views[0] as torch.Tensor, views[1] as torch.Tensor, 0.99);
    optimizer.zeroGrad();
    value.backward();
    optimizer.step();
    return value.item();
  });
  console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, loss }));
}
