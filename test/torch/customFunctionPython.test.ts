/** The same functions in PyTorch: what forward and backward are told, what comes out, what is refused. */
import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { runPython, testPython } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { leaf, square, valuesOf } from "./ownFunctions.js";

expectNoTensorsLeft();

const script = `
import json, torch
seen = {}
def leaf(*values): return torch.tensor(values, dtype=torch.float64, requires_grad=True)

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, gradient):
        x, = ctx.saved_tensors
        return gradient * x * 2

class Pair(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor, y):
        ctx.save_for_backward(y)
        ctx.factor = factor
        seen.setdefault("needs", []).append(list(ctx.needs_input_grad))
        return x * factor + y, y * y, y
    @staticmethod
    def backward(ctx, ofSum, ofSquare, ofSame):
        y, = ctx.saved_tensors
        seen.setdefault("gradients", []).append([each.tolist() for each in (ofSum, ofSquare, ofSame)])
        seen.setdefault("modes", []).append(torch.is_grad_enabled())
        return ofSum * ctx.factor, None, ofSum + ofSquare * y * 2 + ofSame

def raises(fn):
    try:
        fn()
    except RuntimeError as error:
        return str(error).split(".")[0].split(": [")[0]
    return None

x, y = leaf(1, 2), leaf(3, 4)
total, squared, same = Pair.apply(x, 10.0, y)
seen["same"] = [same is y, same.data_ptr() == y.data_ptr(), same.requires_grad, same.is_leaf]
seen["first"] = [each.tolist() for each in torch.autograd.grad(squared.sum(), [x, y])]
seen["all"] = [each.tolist() for each in torch.autograd.grad(sum(each.sum() for each in Pair.apply(x, 2.0, y)), [x, y], create_graph=True)]
Pair.apply(x.detach(), 1.0, y)
cube = Square.apply(x) * x
gradient, = torch.autograd.grad(cube.sum(), x, create_graph=True)
seen["second"] = torch.autograd.grad(gradient.sum(), x)[0].tolist()
with torch.no_grad():
    seen["unrecorded"] = Square.apply(x).requires_grad
once = Square.apply(x).sum()
once.backward()
seen["twice"] = raises(lambda: once.backward())
changed = x * 1
out = Square.apply(changed).sum()
changed.add_(1)
seen["changed"] = raises(lambda: out.backward())
seen["name"] = type(Square.apply(x).grad_fn).__name__
print(json.dumps(seen))
`;

(testPython === null ? test.skip : test)("functions of one's own behave as PyTorch's", () => {
  const theirs = runPython<Record<string, unknown>>(script);
  torch.scope(() => {
    const seen: Record<string, unknown> = {};
    const append = (key: string, value: unknown): void => void ((seen[key] ??= []) as unknown[]).push(value);
    const pair = torch.customFunction({
      name: "Pair",
      forward(context: FunctionContext<[y: Tensor], { factor: number }>, x: Tensor, factor: number, y: Tensor) {
        context.saveForBackward(y);
        context.state.factor = factor;
        append("needs", context.needsInputGrad);
        return [x.mul(factor).add(y), y.mul(y), y];
      },
      backward(context, ofSum, ofSquare, ofSame) {
        const [y] = context.saved;
        append("gradients", [ofSum, ofSquare, ofSame].map(valuesOf));
        append("modes", torch.isGradEnabled());
        return [ofSum!.mul(context.state.factor), null, ofSum!.add(ofSquare!.mul(y).mul(2)).add(ofSame!)];
      },
    });
    const message = (fn: () => void): string | null => {
      try {
        fn();
      } catch (error) {
        return (error as Error).message.replace(/^\w+: /, "").split(".")[0]!.split(": [")[0]!;
      }
      return null;
    };
    const sumOf = (tensors: readonly Tensor[]): Tensor => tensors.map((each) => each.sum()).reduce((a, b) => a.add(b));

    const [x, y] = [leaf(1, 2), leaf(3, 4)];
    const [, squared, same] = pair(x, 10, y) as [Tensor, Tensor, Tensor];
    seen.same = [same === y, torch.storageOf(same).id === torch.storageOf(y).id, same.requiresGrad, same.isLeaf];
    seen.first = torch.grad(squared.sum(), [x, y]).map(valuesOf);
    seen.all = torch.grad(sumOf(pair(x, 2, y)), [x, y], { createGraph: true }).map(valuesOf);
    pair(x.detach(), 1, y);
    const [gradient] = torch.grad(square(x).mul(x).sum(), x, { createGraph: true });
    seen.second = valuesOf(torch.grad(gradient!.sum(), x)[0]);
    seen.unrecorded = torch.noGrad(() => square(x)).requiresGrad;
    const once = square(x).sum();
    once.backward();
    seen.twice = message(() => once.backward());
    const changed = x.mul(1);
    const out = square(changed).sum();
    changed.add_(1);
    seen.changed = message(() => out.backward());
    seen.name = square(x).gradFn!.replace("square", "Square");
    expect(seen).toEqual(theirs);
  });
}, 60_000);
