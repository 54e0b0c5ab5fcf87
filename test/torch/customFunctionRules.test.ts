/** What a function of one's own may keep, and what its forward and backward may give. */
import { describe, expect, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { leaf, square, valuesOf } from "./ownFunctions.js";

expectNoTensorsLeft();

describe("memory of a function", () => {
  const held = (x: Tensor): boolean => !native.isExclusive(x.liveSlot("test"));

  test("what it saved lives with the graph, and ends with it", () => {
    torch.scope(() => {
      const x = torch.scope(() => leaf(1).detach().clone()).requiresGrad_();
      for (const end of ["backward", "no backward", "error"]) {
        torch.scope(() => {
          const before = torch.memory().tensors;
          const y = square(x);
          expect(torch.memory().tensors).toBe(before + 1);
          expect(held(x)).toBe(true);
          if (end === "backward") y.backward();
          if (end === "error") {
            x.detach().add_(1);
            expect(() => y.backward()).toThrow(/modified/);
          }
        });
        x.grad = null;
        expect(held(x)).toBe(false);
      }
    });
  });

  test("nothing is recorded, or saved, where no gradient is asked for", () => {
    torch.scope(() => {
      const x = torch.tensor([3]);
      const w = leaf(3);
      for (const y of [square(x), torch.noGrad(() => square(w)), torch.inferenceMode(() => square(w))]) {
        expect([y.toArray(), y.requiresGrad, y.gradFn]).toEqual([[9], false, null]);
      }
      expect([held(x), held(w)]).toEqual([false, false]);
    });
  });

  test("an error in forward or backward leaves nothing", () => {
    torch.scope(() => {
      const x = leaf(1);
      const before = torch.memory().tensors;
      const failing = (inForward: boolean) => torch.customFunction({
        name: "failing",
        forward(context: FunctionContext<[Tensor]>, each: Tensor) {
          const y = each.mul(2).mul(2);
          context.saveForBackward(y);
          if (inForward) throw new Error("forward");
          return y;
        },
        backward(context): [Tensor] {
          context.saved[0].mul(2).mul(2);
          throw new Error("backward");
        },
      });
      expect(() => failing(true)(x)).toThrow(/^forward$/);
      expect(() => torch.scope(() => failing(false)(x).backward())).toThrow(/^backward$/);
      expect(torch.memory().tensors).toBe(before);
      expect(held(x)).toBe(false);
    });
  });

  test("contexts of dead graphs end in a loop that never yields", () => {
    torch.scope(() => {
      const x = leaf(1);
      let calls = 0;
      const watched = torch.customFunction({
        name: "watched",
        forward(context: FunctionContext<[Tensor], { ballast: Float64Array }>, each: Tensor) {
          context.state.ballast = new Float64Array(1 << 20);
          calls++;
          return each.mul(2);
        },
        backward: (_, gradient) => [gradient],
      });
      // 4 GB in all: it would not fit if the contexts stayed.
      for (let i = 0; i < 500; i++) torch.scope(() => watched(x).backward());
      expect(calls).toBe(500);
      expect(process.memoryUsage().arrayBuffers).toBeLessThan(2e9);
    });
  });

  test("what forward and backward make inside ends when they return", () => {
    torch.scope(() => {
      let inside: Tensor[] = [];
      const leaving = torch.customFunction({
        name: "leaving",
        forward(_: FunctionContext, x: Tensor) {
          inside.push(x.mul(2));
          return x.mul(3);
        },
        backward(_, gradient) {
          inside.push(gradient, gradient.mul(2));
          return [gradient.mul(3)];
        },
      });
      const x = leaf(1);
      const y = leaving(x);
      y.backward();
      expect(inside.map((tensor) => tensor.disposed)).toEqual([true, true, true]);
      expect(y.disposed).toBe(false);
      inside = [];
    });
  });
});

describe("what a function gives", () => {
  let other: Tensor;

  const through = (give: (x: Tensor) => unknown) => torch.customFunction({
    name: "through",
    forward: (_: FunctionContext, x: Tensor) => give(x) as Tensor,
    backward: (_, gradient) => [gradient],
  });

  test("an input that is given back comes as another tensor of the same memory", () => {
    torch.scope(() => {
      const x = leaf(1, 2);
      const same = through((given) => given);
      for (const y of [same(x), torch.noGrad(() => same(x))]) {
        expect(y).not.toBe(x);
        expect(torch.storageOf(y).id).toBe(torch.storageOf(x).id);
      }
      same(x).sum().backward();
      expect(valuesOf(x.grad)).toEqual([1, 1]);
      expect(x.isLeaf).toBe(true);
    });
  });

  test("outputs without a gradient are marked", () => {
    torch.scope(() => {
      const sorted = torch.customFunction({
        name: "sorted",
        forward(context: FunctionContext<[Tensor]>, x: Tensor) {
          const [values, places] = x.sort() as [Tensor, Tensor];
          const copy = values.clone();
          context.saveForBackward(places);
          context.markNonDifferentiable(copy);
          return [values, places, copy];
        },
        backward(context, ofValues, ofPlaces, ofCopy) {
          expect([ofPlaces, ofCopy].map(valuesOf)).toEqual([[0, 0], [0, 0]]);
          return [torch.zerosLike(ofValues).scatter(0, context.saved[0], ofValues)];
        },
      });
      const x = leaf(2, 1);
      const [values, places, copy] = sorted(x) as [Tensor, Tensor, Tensor];
      expect([values, places, copy].map((tensor) => tensor.requiresGrad)).toEqual([true, false, false]);
      values.mul(torch.tensor([10, 20])).sum().backward();
      expect(valuesOf(x.grad)).toEqual([20, 10]);
    });
  });

  test("gradients of outputs that did not count: zeros, or null where zeros are declined", () => {
    torch.scope(() => {
      const seen: unknown[] = [];
      const two = torch.customFunction({
        name: "two", materializeGradients: false,
        forward: (_: FunctionContext, x: Tensor) => [x.mul(2), x.mul(3)],
        backward(_, first, second) {
          seen.push(valuesOf(first ?? null), valuesOf(second ?? null));
          return [first ?? null];
        },
      });
      two(leaf(1))[0]!.backward();
      expect(seen).toEqual([[1], null]);
    });
  });

  test("sums over what was broadcast and casts, as operators do", () => {
    torch.scope(() => {
      const bias = torch.customFunction({
        name: "bias",
        forward: (_: FunctionContext, x: Tensor, b: Tensor) => x.add(b),
        backward: (_, gradient) => [gradient, gradient.to("float64")],
      });
      const b = torch.zeros([2]).requiresGrad_();
      bias(torch.ones([3, 2]), b).sum().backward();
      expect([b.grad!.toArray(), b.grad!.dtype]).toEqual([[3, 3], "float32"]);
    });
  });

  test.each<[string, (context: FunctionContext, x: Tensor) => unknown, RegExp]>([
    ["no tensor", () => 3, /^wrong: forward gave a number; it gives a tensor/],
    ["no tensor among several", (_, x) => [x.mul(1), null], /^wrong: forward gave null as output 1/],
    ["a tensor twice", (_, x) => Array<Tensor>(2).fill(x.mul(2)), /^wrong: forward gave the same tensor as output 0 and 1; give a clone/],
    ["a change of an input in place", (_, x) => x.mul_(2).clone(), /^wrong: forward changed input 0 in place.*clone\(\)/],
    ["another's output", () => torch.enableGrad(() => other.mul(1)), /^wrong: output 0 belongs to another graph; give detach\(\)/],
    ["a tensor in its state", (context, x) => (context.state.x = x.mul(2)), /^wrong: context\.state\.x is a tensor.*saveForBackward/],
    ["marks what is no output", (context, x) => (context.markNonDifferentiable(x), x.mul(2)), /^wrong: markNonDifferentiable/],
    ["saves twice", (context, x) => (context.saveForBackward(x), context.saveForBackward(x), x.mul(2)), /^wrong: saveForBackward\(\) was called twice/],
    ["looks for what was saved", (context) => context.saved[0], /^wrong: context\.saved is there in backward only/],
    ["a promise", (_, x) => Promise.resolve(x), /Promise|cannot span an await/],
  ])("forward: %s is refused", (_, forward, message) => {
    torch.scope(() => {
      other = leaf(1);
      const wrong = torch.customFunction({
        name: "wrong",
        forward: (context: FunctionContext, x: Tensor) => forward(context, x) as Tensor,
        backward: (_, gradient) => [gradient],
      });
      expect(() => wrong(leaf(1, 2, 3))).toThrow(message);
    });
  });


  test.each<[string, (gradient: Tensor) => unknown, RegExp]>([
    ["no array", (gradient) => gradient, /^wrong: backward gave float64\[3\]; it gives an array of 2/],
    ["nothing", () => undefined, /^wrong: backward gave undefined; it gives an array of 2/],
    ["too few", () => [], /^wrong: backward gave 0 gradients; it gives an array of 2/],
    ["too many", (gradient) => [gradient, null, gradient], /^wrong: backward gave 3 gradients/],
    ["a number", () => [3, null], /^wrong: backward gave a number as the gradient of input 0; give a tensor/],
    ["undefined", () => [undefined, null], /^wrong: backward gave undefined as the gradient of input 0/],
    ["one for no tensor", (gradient) => [gradient, gradient], /^wrong: backward gave float64\[3\] as the gradient of input 1, which is no tensor/],
    ["another shape", (gradient) => [gradient.narrow(0, 0, 2), null], /^wrong: backward gave Double\[2\] on cpu as the gradient of input 0, which is Double\[3\] on cpu; give it the input's shape/],
    ["another kind of number", (gradient) => [gradient.to("int64"), null], /^wrong: backward gave Long\[3\] on cpu as the gradient of input 0.*; give it the input's dtype/],
    ["another device", (gradient) => [torch.emptyLike(gradient, { device: "meta" }), null], /^wrong: backward gave Double\[3\] on meta as the gradient of input 0.*; move it/],
    ["a disposed tensor", (gradient) => (gradient.dispose(), [gradient, null]), /^wrong's backward: the tensor was disposed of/],
    ["a promise", (gradient) => Promise.resolve([gradient, null]), /^wrong: backward returned a Promise/],
  ])("backward: %s is refused", (_, backward, message) => {
    torch.scope(() => {
      const wrong = torch.customFunction({
        name: "wrong",
        forward: (_: FunctionContext, x: Tensor, factor: number) => x.mul(factor),
        backward: (_, gradient) => backward(gradient) as [Tensor, null],
      });
      const x = leaf(1, 2, 3);
      const y = wrong(x, 2).sum();
      expect(() => y.backward()).toThrow(message);
      expect(x.grad).toBeNull();
    });
  });

  test("inputs that are left out may be left out of the gradients, and null is no gradient", () => {
    torch.scope(() => {
      const scaled = torch.customFunction({
        name: "scaled",
        forward: (_: FunctionContext, x: Tensor, factor?: number) => x.mul(factor ?? 2),
        backward: (_, gradient) => [gradient.mul(2), null],
      });
      const x = leaf(1);
      scaled(x).backward();
      scaled(x, 3).backward();
      expect(valuesOf(x.grad)).toEqual([4]);
      const none = torch.customFunction({ name: "none", forward: (_: FunctionContext, each: Tensor) => each.mul(2), backward: () => [null] });
      expect(torch.grad(none(x), x, { allowUnused: true })).toEqual([null]);
    });
  });

  test("a backward that cannot be differentiated again refuses, rather than give zeros", () => {
    torch.scope(() => {
      const once = torch.customFunction({
        name: "once", onceDifferentiable: true,
        forward: (_: FunctionContext, x: Tensor) => x.mul(2),
        backward: (_, gradient) => [gradient.mul(2)],
      });
      const x = leaf(1);
      once(x).backward();
      expect(valuesOf(x.grad)).toEqual([2]);
      expect(() => torch.grad(once(x), x, { createGraph: true })).toThrow(/^once: its backward cannot be differentiated again; leave out createGraph/);
    });
  });
});
