// Our side of the operator benchmark: one line of input, one measurement.
import { createInterface } from "node:readline";
import * as torch from "../../../lib/torch/index.js";

torch.setNumThreads(1);
const a = torch.randn([8, 8]);
const b = torch.randn([8, 8]);
const weight = torch.ones([8]);
const bias = torch.zeros([8]);

const cases: Record<string, () => unknown> = {
  add: () => torch.add(a, b),
  mm: () => torch.mm(a, b),
  linear: () => torch.linear(a, b, bias),
  layerNorm: () => torch.layerNorm(a, [8], weight, bias, 1e-5),
  gelu: () => torch.gelu(a),
  reshape: () => torch.reshape(a, [4, 16]),
  transpose: () => torch.transpose(a, 0, 1),
  sum: () => torch.sum(a),
};

/** Nanoseconds per call; results are freed in scopes of a hundred, as a model's code would. */
function measure(run: () => unknown): number {
  const scopes = 200;
  const calls = 100;
  const start = process.hrtime.bigint();
  for (let i = 0; i < scopes; i++) {
    torch.scope(() => {
      for (let j = 0; j < calls; j++) run();
    });
  }
  return Number(process.hrtime.bigint() - start) / (scopes * calls);
}

for await (const _ of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(Object.fromEntries(Object.entries(cases).map(([name, run]) => [name, measure(run)]))));
}
