import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { fusedReferences } from "./fusedReferences.js";

expectNoTensorsLeft();

const leaf = (...values: number[]): Tensor => torch.tensor(values, undefined, { dtype: "float64", requiresGrad: true });
const numbers = { dtype: "float64", device: "cpu" } as const;

/** `x * x` with a backward that may be wrong. */
const square = (backward: (gradient: Tensor, x: Tensor) => Tensor | null) => torch.customFunction({
  name: "square",
  forward(context: FunctionContext<[Tensor]>, x: Tensor) {
    context.saveForBackward(x);
    return x.mul(x);
  },
  backward: (context, gradient) => [backward(gradient, context.saved[0])],
});

describe("gradcheck", () => {
  test("agrees with libtorch's own gradients, of several outputs and inputs, also second ones", () => {
    torch.scope(() => {
      const [x, y] = [leaf(0.5, -1, 2), leaf(1, 2, 3)];
      const several = (a: Tensor, scale: number, b: Tensor): Tensor[] => [a.mul(b).sin().mul(scale), b.exp().sum(), a.detach()];
      torch.gradcheck(several, [x, 3, y]);
      torch.gradgradcheck(several, [x, 3, y]);
      torch.gradcheck((a) => a.mul(2), [torch.tensor(4, [], { dtype: "float64", requiresGrad: true })]);
      expect([x.grad, x.toArray()]).toEqual([null, [0.5, -1, 2]]);
    });
  });

  test.each<[string, Parameters<typeof square>[0], RegExp]>([
    ["a wrong gradient", (gradient, x) => gradient.mul(x).mul(3), /the gradient of output 0 by input 0 is wrong, most at .* \[1, 1\]: 6 in place of 4\.0/],
    ["no gradient", () => null, /is wrong, most at .* \[1, 1\]: 0 in place of 4/],
    ["a gradient that is not a number", (gradient, x) => gradient.mul(x).div(0).mul(0), /is wrong, most at .*NaN/],
    ["a gradient without the one before", (_, x) => x.mul(2), /is wrong/],
    ["another gradient each time", (gradient, x) => gradient.mul(x).mul(2 + 1e-9 * calls++), /was .* and then .*the same each time/],
  ])("%s is found", (_, backward, message) => {
    torch.scope(() => {
      expect(() => torch.gradcheck(square(backward), [leaf(1, 2)])).toThrow(torch.GradcheckError);
      expect(() => torch.gradcheck(square(backward), [leaf(1, 2)])).toThrow(message);
    });
  });
  let calls = 0;

  test("a second derivative that is missing is found", () => {
    torch.scope(() => {
      const first = square((gradient, x) => gradient.mul(x.detach()).mul(2));
      torch.gradcheck(first, [leaf(1, 2)]);
      expect(() => torch.gradgradcheck(first, [leaf(1, 2)])).toThrow(torch.GradcheckError);
    });
  });

  test("tolerances and step are the caller's", () => {
    torch.scope(() => {
      const coarse = square((gradient, x) => gradient.mul(x).mul(2.01));
      expect(() => torch.gradcheck(coarse, [leaf(1, 2)])).toThrow(torch.GradcheckError);
      torch.gradcheck(coarse, [leaf(1, 2)], { rtol: 0.01 });
      torch.gradcheck(coarse, [leaf(1, 2)], { atol: 0.1 });
      expect(() => torch.gradcheck((x) => x.pow(3), [leaf(1)], { eps: 0.1 })).toThrow(torch.GradcheckError);
    });
  });

  test("refuses what it cannot check", () => {
    torch.scope(() => {
      expect(() => torch.gradcheck((x) => x.mul(2), [torch.ones([2]).requiresGrad_()])).toThrow(/input 0 is float32, too coarse.*float64/);
      expect(() => torch.gradcheck((x) => x.mul(2), [torch.ones([2])])).toThrow(/no input requires a gradient/);
      expect(() => torch.gradcheck((x) => x.to("float32"), [leaf(1)])).toThrow(/output 0 is float32/);
    });
  });
});

describe.each(fusedReferences.map((each) => [each.name, each] as const))("the reference of %s", (_, { reference, operators, inputs }) => {
  const list = (output: Tensor | readonly Tensor[]): readonly Tensor[] => (Array.isArray(output) ? output : [output]) as readonly Tensor[];

  test("agrees with numerical gradients", () => {
    torch.manualSeed(5);
    torch.scope(() => torch.gradcheck(reference as (...all: readonly unknown[]) => Tensor, inputs(numbers)));
  });

  test("agrees with the operators that it replaces: outputs, gradients, and what they change in place", () => {
    torch.scope(() => {
      const run = (fn: typeof reference): Tensor[] => {
        torch.manualSeed(6);
        const given = inputs(numbers);
        const outputs = list((fn as (...all: unknown[]) => Tensor)(...given));
        torch.manualSeed(7);
        const weighted = outputs.map((output) => output.mul(torch.randn(output.shape, numbers)).sum()).reduce((a, b) => a.add(b));
        const tensors = given.filter((each) => each instanceof torch.Tensor);
        const gradients = torch.grad(weighted, tensors.filter((each) => each.requiresGrad));
        return [...outputs, ...(gradients as Tensor[]), ...tensors];
      };
      const [ours, theirs] = [run(reference), run(operators)];
      expect(ours.length).toBe(theirs.length);
      for (const [i, tensor] of ours.entries()) {
        expect(tensor.shape).toEqual(theirs[i]!.shape);
        expect(torch.scope(() => tensor.sub(theirs[i]!).abs().max().item())).toBeLessThan(1e-12);
      }
    });
  });
});
