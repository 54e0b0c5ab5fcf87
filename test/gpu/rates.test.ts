/** Learning rate and momentum in a GPU's memory, against the same as numbers of JavaScript. */
import { expect, test } from "@jest/globals";
import { updateMomentumParameters } from "../../lib/moco/index.js";
import * as torch from "../../lib/torch/index.js";
import { kinds, train } from "../optim/rateTraining.js";
import { numbers, relativeL2 } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

onGpu("on a GPU", () => {
  test.each(kinds)("$name: rates in its memory give the weights of rates outside, but for roundings", (kind) => {
    const [inside, outside] = [true, false].map((ratesOnDevice) => train(kind, { ratesOnDevice }, { device: gpu })) as [Trained, Trained];
    expect(relativeL2(inside.weights, outside.weights)).toBeLessThan(1e-6);
    expect(relativeL2(inside.state, outside.state)).toBeLessThan(1e-6);
  });

  test("the momentum update is one launch either way, and equal parameters stay equal to the bit", () => {
    torch.scope(() => {
      const base = [torch.randn([50, 20], { device: gpu }), torch.randn([7], { device: gpu })];
      const [inside, outside] = [0, 1].map(() => [torch.zeros([50, 20], { device: gpu }), base[1]!.clone()]) as [torch.Tensor[], torch.Tensor[]];
      const share = torch.zeros([], { dtype: "float32", device: gpu });
      const before = base.map((each) => each.clone());
      for (let step = 0; step < 100; step++) {
        const momentum = 0.99 + step / 10_000;
        updateMomentumParameters(outside, base, momentum);
        updateMomentumParameters(inside, base, share.fill_(1 - momentum));
      }
      expect(relativeL2(numbers(inside[0]!), numbers(outside[0]!))).toBeLessThan(1e-6);
      expect(torch.equal(inside[1]!, base[1]!)).toBe(true);
      base.forEach((each, i) => expect(torch.equal(each, before[i]!)).toBe(true));
    });
  });
});

type Trained = ReturnType<typeof train>;
