import { readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { leaf, square, valuesOf } from "./ownFunctions.js";

expectNoTensorsLeft();

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
      const own: { output?: Tensor } = {};
      const again = torch.customFunction({
        name: "again",
        forward(context: FunctionContext<[Tensor]>, x: Tensor) {
          context.saveForBackward(x);
          return x.mul(3);
        },
        backward(context, gradient) {
          if (passes++ === 0) expect(valuesOf(torch.grad(own.output!, x, { gradOutputs: [gradient.mul(2)], retainGraph: true })[0]!)).toEqual([6, 6]);
          expect(valuesOf(context.saved[0])).toEqual([3, 4]);
          return [gradient.mul(3)];
        },
      });
      const y = (own.output = again(x));
      expect(valuesOf(torch.grad(y, x, { gradOutputs: [torch.onesLike(y)], retainGraph: true })[0])).toEqual([3, 3]);
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

test("a pass inside an operator's call leaves the call's arguments alone", () => {
  torch.scope(() => {
    const x = leaf(2);
    torch.op("_backward")(square(x), [x]);
    expect(valuesOf(x.grad)).toEqual([4]);
  });
});

test("a pass inside an operator's call may use operators for the first time", () => {
  torch.scope(() => {
    const x = leaf(2);
    const curious = torch.customFunction({
      name: "curious",
      forward: (_, input: Tensor) => input.mul(3),
      backward(_, gradient) {
        // Enough of them to move what the addon knows of operators, were it in one piece of memory.
        for (const [name, overloads] of Object.entries(native.overloads())) {
          if (name.startsWith("special_")) for (const overload of overloads) native.resolve(`aten::${name}`, overload);
        }
        return [gradient.mul(3)];
      },
    });
    expect(torch.op("_backward")(curious(x), [x])).toBeUndefined();
    expect(valuesOf(x.grad)).toEqual([3]);
  });
});

test("what is thrown in a pass inside an operator's call is told by the call's error", () => {
  torch.scope(() => {
    const x = leaf(2);
    const thrown = new RangeError("its own words");
    const failing = torch.customFunction({ name: "failing", forward: (_, input: Tensor) => input.mul(3), backward() { throw thrown; } });
    expect(() => torch.op("_backward")(failing(x), [x])).toThrow(expect.objectContaining({
      name: "TorchError", message: expect.stringContaining("_backward: its own words") as unknown, cause: thrown,
    }));
    expect(x.grad).toBeNull();
    expect(valuesOf(x.mul(2))).toEqual([4]);
  });
});

test("an output may be a view of an input, and is not to be changed in place", () => {
  torch.scope(() => {
    const first = torch.customFunction({
      name: "first",
      forward: (_, x: Tensor) => x.narrow(0, 0, 1),
      backward: (_, gradient) => [torch.cat([gradient.mul(3), torch.zerosLike(gradient)]) as Tensor],
    });
    for (const through of [(x: Tensor): Tensor => x, (x: Tensor): Tensor => x.mul(1), (x: Tensor): Tensor => x.view([2])]) {
      const x = leaf(5, 7);
      const y = first(through(x));
      expect([valuesOf(y), y.gradFn]).toEqual([[5], "firstBackward"]);
      y.sum().backward();
      expect(valuesOf(x.grad)).toEqual([3, 0]);
      expect(() => y.mul_(2)).toThrow(/is a view and is being modified inplace/);
    }
    const other = leaf(1, 2);
    const foreign = torch.customFunction({ name: "foreign", forward: (_, __: Tensor) => other.narrow(0, 0, 1), backward: (_, gradient) => [gradient] });
    expect(() => foreign(leaf(1))).toThrow(/belongs to another graph/);
  });
});
