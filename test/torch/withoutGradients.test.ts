import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

// A call in which no tensor needs a gradient passes by autograd. What was made so must still be known to it where gradients come in later.
expectNoTensorsLeft();

const learned = (values: number[]): Tensor => torch.tensor(values, undefined, { requiresGrad: true });

test.each<[string, (base: Tensor) => Tensor]>([
  ["narrow", (base) => base.narrow(0, 1, 2)],
  ["transpose", (base) => torch.transpose(base.view([2, 2]), 0, 1).select(1, 1)],
  ["reshape", (base) => torch.reshape(base, [2, 2]).select(0, 1)],
])("what is written through a view (%s) has its gradient through the base", (_, view) => {
  torch.scope(() => {
    const w = learned([3, 5]);
    const base = torch.zeros([4]);
    view(base).add_(w);
    expect(base.requiresGrad).toBe(true);
    base.mul(2).sum().backward();
    expect(w.grad!.toArray()).toEqual([2, 2]);
  });
});

test("views of which writing to one is refused stay such", () => {
  torch.scope(() => {
    const w = learned([3, 5]);
    const [first] = torch.chunk(torch.zeros([4]), 2) as unknown as [Tensor];
    expect(() => first.add_(w)).toThrow(/multiple views/);
    const ofLeaf = torch.noGrad(() => w.narrow(0, 0, 1));
    expect(() => ofLeaf.mul_(2)).toThrow(/no_grad mode/);
  });
});

test("a result that backward needs is known to have changed", () => {
  torch.scope(() => {
    const w = learned([3, 5]);
    const factor = torch.ones([2]).mul(2);
    const product = factor.mul(w).sum();
    factor.add_(1);
    expect(() => product.backward()).toThrow(/modified by an inplace operation/);
    const fresh = torch.ones([2]).mul(2);
    fresh.add_(w).sum().backward();
    expect(w.grad!.toArray()).toEqual([1, 1]);
  });
});

test("without gradients what needs one is a constant, and with them again it is not", () => {
  torch.scope(() => {
    const w = learned([3, 5]);
    expect(torch.noGrad(() => w.mul(2)).requiresGrad).toBe(false);
    expect(w.mul(2).requiresGrad).toBe(true);
    const [values] = torch.topk(w, 1) as [Tensor, Tensor];
    expect(values.requiresGrad).toBe(true);
  });
});

test("operators that only autograd's kernels know stay with them", () => {
  torch.scope(() => {
    const x = torch.ones([2]);
    expect((torch.inferenceMode(() => torch.op("_fw_primal_copy")(x, 0)) as Tensor).toArray()).toEqual([1, 1]);
  });
});
