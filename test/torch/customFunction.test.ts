import { readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const square = torch.customFunction({
  name: "square",
  forward(context: FunctionContext<[x: Tensor]>, x: Tensor) {
    context.saveForBackward(x);
    return x.mul(x);
  },
  backward(context, gradient) {
    const [x] = context.saved;
    return [gradient.mul(x).mul(2)];
  },
});

/** `x * factor + y` and `y * y`, with an input that is no tensor. */
const pair = torch.customFunction({
  name: "pair",
  forward(context: FunctionContext<[y: Tensor], { factor: number }>, x: Tensor, factor: number, y: Tensor) {
    context.saveForBackward(y);
    context.state.factor = factor;
    return [x.mul(factor).add(y), y.mul(y)];
  },
  backward(context, ofSum, ofSquare) {
    const [y] = context.saved;
    return [ofSum.mul(context.state.factor), null, ofSum.add(ofSquare.mul(y).mul(2))];
  },
});

const leaf = (...values: number[]): Tensor => torch.tensor(values, undefined, { dtype: "float64", requiresGrad: true });
const valuesOf = (tensor: Tensor | null): unknown => tensor?.toArray() ?? null;

/** Every test in JavaScript's thread, and with the pass in another, as on a GPU. */
describe.each([["in JavaScript's thread", false], ["with the pass in another thread", true]])("a function of one's own, %s", (_, elsewhere) => {
  beforeEach(() => void native.runBackwardElsewhere(elsewhere));
  afterEach(() => void native.runBackwardElsewhere(false));

  test("has the backward that it was given", () => {
    torch.scope(() => {
      const x = leaf(1, 2, 3);
      const y = square(x);
      expect([y.toArray(), y.gradFn, y.requiresGrad]).toEqual([[1, 4, 9], "squareBackward", true]);
      y.sum().backward();
      expect(valuesOf(x.grad)).toEqual([2, 4, 6]);
      expect(valuesOf(torch.grad(square(square(x)).sum(), x)[0]!)).toEqual([4, 32, 108]);
    });
  });

  test("takes and gives several, whatever counts", () => {
    torch.scope(() => {
      const [x, y] = [leaf(1, 2), leaf(3, 4)];
      const [sum, squared] = pair(x, 10, y) as [Tensor, Tensor];
      const gradients = (output: Tensor): unknown => torch.grad(output.sum(), [x, y], { retainGraph: true }).map(valuesOf);
      expect(gradients(sum)).toEqual([[10, 10], [1, 1]]);
      expect(gradients(squared)).toEqual([[0, 0], [6, 8]]);
      expect(gradients(sum.add(squared))).toEqual([[10, 10], [7, 9]]);
    });
  });

  test("agrees with numerical gradients, also second ones", () => {
    torch.scope(() => {
      torch.gradcheck(square, [leaf(0.3, -2)]);
      torch.gradgradcheck(square, [leaf(0.3, -2)]);
      torch.gradcheck(pair, [leaf(0.5, 1), 3, leaf(2, -1)]);
      torch.gradgradcheck(pair, [leaf(0.5, 1), 3, leaf(2, -1)]);
    });
  });

  test("what it throws in backward comes out as the same object, and the next pass works", () => {
    torch.scope(() => {
      const thrown: unknown[] = [new RangeError("mine"), { not: "an error" }, "text", null];
      let next: unknown;
      const failing = torch.customFunction({
        name: "failing",
        forward: (context: FunctionContext, x: Tensor) => (context.saveForBackward(x), x.clone()),
        backward(): [Tensor] {
          throw next;
        },
      });
      const x = leaf(1);
      for (next of thrown) {
        for (const pass of [() => failing(x).mul(2).backward(), () => void torch.grad(square(failing(x)), x)]) {
          let caught: unknown = "nothing";
          try {
            pass();
          } catch (error) {
            caught = error;
          }
          expect(caught).toBe(next);
        }
      }
      expect(x.grad).toBeNull();
      square(x).backward();
      expect(valuesOf(x.grad)).toEqual([2]);
    });
  });

  test("runs passes inside its backward, over other graphs and its own", () => {
    torch.scope(() => {
      let depth = 0;
      /** The sum of `x * x`, whose gradient is taken by a pass over the same function, fifty deep. */
      const deep = torch.customFunction({
        name: "deep",
        forward(context: FunctionContext<[Tensor]>, x: Tensor) {
          context.saveForBackward(x);
          return x.mul(x).sum();
        },
        backward(context, gradient) {
          const [x] = context.saved;
          if (++depth > 100) return [x.mul(2).mul(gradient)];
          const inner = x.detach().requiresGrad_();
          const [result] = torch.grad(torch.enableGrad(() => deep(square(inner).sqrt())), inner);
          return [result!.mul(gradient)];
        },
      }) as (x: Tensor) => Tensor;
      const x = leaf(3, 4);
      deep(x).mul(10).backward();
      expect(depth).toBe(101);
      expect((x.grad!.toArray() as number[]).map(Math.round)).toEqual([60, 80]);

      let passes = 0;
      let own: Tensor;
      const again = torch.customFunction({
        name: "again",
        forward(context: FunctionContext<[Tensor]>, x: Tensor) {
          context.saveForBackward(x);
          return x.mul(3);
        },
        backward(context, gradient) {
          if (passes++ === 0) expect(valuesOf(torch.grad(own, x, { gradOutputs: [gradient.mul(2)], retainGraph: true })[0]!)).toEqual([6, 6]);
          expect(valuesOf(context.saved[0])).toEqual([3, 4]);
          return [gradient.mul(3)];
        },
      });
      own = again(x);
      expect(valuesOf(torch.grad(own, x, { gradOutputs: [torch.onesLike(own)], retainGraph: true })[0]!)).toEqual([3, 3]);
      expect(passes).toBe(2);
    });
  });

  test("an error inside a pass inside comes out of both, and can be caught between", () => {
    torch.scope(() => {
      const mine = new Error("inner");
      let caught: unknown;
      const through = (handle: (pass: () => void) => void) => torch.customFunction({
        name: "through",
        forward: (_: FunctionContext, x: Tensor) => x.mul(1),
        backward(_, gradient) {
          handle(() => torch.enableGrad(() => {
            const inner = leaf(1);
            inner.grad = null;
            failing(inner).backward();
          }));
          return [gradient];
        },
      });
      const failing = torch.customFunction({
        name: "failing",
        forward: (_: FunctionContext, x: Tensor) => x.mul(1),
        backward(): [Tensor] {
          throw mine;
        },
      });
      const x = leaf(1);
      expect(() => through((pass) => pass())(x).backward()).toThrow(mine);
      through((pass) => {
        try {
          pass();
        } catch (error) {
          caught = error;
        }
      })(x).backward();
      expect(caught).toBe(mine);
      expect(valuesOf(x.grad)).toEqual([1]);
    });
  });

  test("modes of the pass hold in it: recording only with createGraph, autocast as where the pass was begun", () => {
    torch.scope(() => {
      const seen: unknown[] = [];
      const threadsInside: number[] = [];
      const looking = torch.customFunction({
        name: "looking",
        forward(_: FunctionContext, x: Tensor) {
          seen.push(torch.isGradEnabled());
          return x.mul(2);
        },
        backward(_, gradient) {
          seen.push(torch.isGradEnabled(), torch.scope(() => torch.mm(torch.ones([2, 2]), torch.ones([2, 2])).dtype), torch.getNumThreads());
          if (process.platform === "linux") threadsInside.push(readdirSync("/proc/self/task").length);
          return [gradient.mul(2)];
        },
      });
      const x = leaf(1);
      const threads = torch.getNumThreads();
      looking(x).backward();
      torch.grad(looking(x), x, { createGraph: true });
      const y = looking(x);
      torch.autocast({ device: "cpu", dtype: "float16" }, () => y.backward());
      expect(seen).toEqual([false, false, "float32", threads, false, true, "float32", threads, false, false, "float16", threads]);
      const after = process.platform === "linux" ? readdirSync("/proc/self/task").length : 0;
      for (const count of threadsInside) expect(count > after).toBe(elsewhere);
    });
  });

  test("is told which gradients are asked for", () => {
    torch.scope(() => {
      const needs: (readonly boolean[])[] = [];
      const product = torch.customFunction({
        name: "product",
        forward(context: FunctionContext<[Tensor, Tensor]>, a: Tensor, scale: number, b: Tensor) {
          needs.push(context.needsInputGrad);
          context.saveForBackward(a, b);
          return a.mul(b).mul(scale);
        },
        backward(context, gradient) {
          needs.push(context.needsInputGrad);
          const [a, b] = context.saved;
          return [context.needsInputGrad[0] ? gradient.mul(b) : null, null, context.needsInputGrad[2] ? gradient.mul(a) : null];
        },
      });
      const [a, b, constant] = [leaf(2), leaf(3), torch.tensor([5], undefined, { dtype: "float64" })];
      product(a, 1, b).backward();
      product(a, 1, constant).backward();
      torch.grad(product(a, 1, b), b);
      torch.noGrad(() => product(a, 1, b));
      const [yes, no] = [true, false];
      expect(needs).toEqual([[yes, no, yes], [yes, no, yes], [yes, no, no], [yes, no, no], [yes, no, yes], [no, no, yes], [no, no, no]]);
      expect([a.grad, b.grad].map(valuesOf)).toEqual([[8], [2]]);
    });
  });

  test("its graph is used once unless it is retained", () => {
    torch.scope(() => {
      const x = leaf(3);
      const y = square(x);
      y.backward(null, { retainGraph: true });
      y.backward();
      expect(valuesOf(x.grad)).toEqual([12]);
      expect(() => y.backward()).toThrow(torch.CustomFunctionError);
      expect(() => y.backward()).toThrow(/^square: Trying to backward through the graph a second time/);
    });
  });

  test("what it saved must be as it was", () => {
    torch.scope(() => {
      const x = leaf(3);
      const twice = x.mul(2);
      const y = square(twice);
      twice.add_(1);
      expect(() => y.backward()).toThrow(torch.CustomFunctionError);
      expect(() => y.backward()).toThrow(/^square: one of the variables needed for gradient computation has been modified by an inplace operation.*version 1/s);
    });
  });

  test("a saved output is the output, also for second derivatives", () => {
    torch.scope(() => {
      const exponential = torch.customFunction({
        name: "exponential",
        forward(context: FunctionContext<[y: Tensor, none: Tensor | null]>, x: Tensor) {
          const y = x.exp();
          context.saveForBackward(y, null);
          return y;
        },
        backward(context, gradient) {
          const [y, none] = context.saved;
          expect(none).toBeNull();
          return [gradient.mul(y)];
        },
      });
      torch.gradcheck(exponential, [leaf(0.5, -1)]);
      torch.gradgradcheck(exponential, [leaf(0.5, -1)]);
      const y = exponential(leaf(1));
      y.add_(1);
      expect(() => y.backward()).toThrow(/^exponential: .*modified by an inplace operation/);
    });
  });
});

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

test("a pass inside an operator's call leaves the call's arguments alone", () => {
  torch.scope(() => {
    const x = leaf(2);
    torch.op("_backward")(square(x), [x]);
    expect(valuesOf(x.grad)).toEqual([4]);
  });
});
