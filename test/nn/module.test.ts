/** The module base: registration, state, modes, conversion, lifetime. */
import { describe, expect, test } from "@jest/globals";
import { BatchNorm1d, Linear, Module, ReLU, Sequential, StateDictError } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

class Net extends Module {
  readonly first: Linear;
  readonly norm: BatchNorm1d;
  readonly scale: Tensor;
  readonly offset: Tensor;

  constructor() {
    super();
    this.first = this.child("first", new Linear(3, 2));
    this.norm = this.child("norm", new BatchNorm1d(2));
    this.scale = this.parameter("scale", torch.ones([2]));
    this.offset = this.buffer("offset", torch.zeros([2]));
  }

  forward(x: Tensor): Tensor {
    return this.norm.forward(this.first.forward(x)).mul(this.scale).add(this.offset);
  }

  rename(name: string): void {
    this.child(name, new ReLU());
  }
}

describe("state dict", () => {
  test("own parameters, own buffers, then children, in the order of registration", () => {
    using net = new Net();
    expect([...net.stateDict().keys()]).toEqual([
      "scale", "offset", "first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
      "norm.num_batches_tracked",
    ]);
    expect(net.namedParameters().map(([key]) => key)).toEqual(["scale", "first.weight", "first.bias", "norm.weight", "norm.bias"]);
    expect(net.namedBuffers().map(([key]) => key)).toEqual(["offset", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]);
    expect(net.stateDict().get("scale")).toBe(net.scale);
    expect([...net.namedModules()].map(([key]) => key)).toEqual(["", "first", "norm"]);
  });

  test("loads into the same tensors, converting dtypes", () => {
    using source = new Net().to("float64");
    using target = new Net();
    const { scale } = target;
    expect(target.loadStateDict(source.stateDict())).toEqual({ missing: [], unexpected: [] });
    expect(target.scale).toBe(scale);
    expect(target.first.weight.dtype).toBe("float32");
    expect(target.first.weight.data()).toEqual(Float32Array.from(source.first.weight.data() as Float64Array));
    expect(target.first.weight.requiresGrad).toBe(true);
  });

  test("errors name what is missing, unexpected and of another shape, and change nothing", () => {
    using net = new Net();
    using other = torch.full([4, 3], 9);
    const before = net.scale.data();
    const state = net.stateDict();
    state.delete("offset");
    state.set("first.weight", other).set("extra.weight", other);
    using scale = torch.full([2], 5);
    state.set("scale", scale);
    let error: unknown;
    try {
      net.loadStateDict(state);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(StateDictError);
    const fault = error as StateDictError;
    expect(fault.name).toBe("StateDictError");
    expect(fault.missing).toEqual(["offset"]);
    expect(fault.unexpected).toEqual(["extra.weight"]);
    expect(fault.mismatched).toEqual([{ key: "first.weight", expected: [2, 3], found: [4, 3] }]);
    expect(fault.message).toMatch(/fit Net[^]*missing: offset[^]*unexpected: extra.weight/);
    expect(fault.message).toMatch(/first.weight is \[2,3\] in the model, \[4,3\]/);
    expect(net.scale.data()).toEqual(before);
  });

  test("strict: false takes what fits and returns the rest", () => {
    using net = new Net();
    using scale = torch.full([2], 5);
    const result = net.loadStateDict(new Map([["scale", scale], ["extra", scale]]), { strict: false });
    expect(result.unexpected).toEqual(["extra"]);
    expect(result.missing).toHaveLength(8);
    expect([...(net.scale.data() as Float32Array)]).toEqual([5, 5]);
    using wrong = torch.zeros([3]);
    expect(() => net.loadStateDict(new Map([["scale", wrong]]), { strict: false })).toThrow(/scale is \[2\] in the model, \[3\]/);
  });

  test("a long list of keys is cut in the message, not in the error", () => {
    using net = new Sequential<Module>(...Array.from({ length: 20 }, () => new Linear(1, 1)));
    expect(() => net.loadStateDict(new Map())).toThrow(/and 28 more \(40\)/);
  });
});

describe("registration", () => {
  test("a name is one word and of one kind", () => {
    using net = new Net();
    expect(() => net.rename("a.b")).toThrow(/no dot/);
    expect(() => net.rename("")).toThrow(/not empty/);
    expect(() => net.rename("scale")).toThrow(/already has "scale"/);
  });

  test("a child of a known name takes its place in the order", () => {
    using net = new Net();
    const { first } = net;
    net.rename("first");
    expect([...net.children.keys()]).toEqual(["first", "norm"]);
    first.dispose();
  });

  test("parameters made inside a scope outlive it", () => {
    using net = torch.scope(() => new Net());
    torch.scope(() => expect(net.forward(torch.randn([4, 3])).shape).toEqual([4, 2]));
  });

  test("a tensor shared by two modules is one parameter with two keys", () => {
    class Tied extends Module {
      readonly a = this.child("a", new Linear(2, 2, { bias: false }));
      readonly b = this.child("b", new Shared(this.a.weight));
      forward(x: Tensor): Tensor {
        return this.b.forward(this.a.forward(x));
      }
    }
    class Shared extends Module {
      readonly weight: Tensor;
      constructor(weight: Tensor) {
        super();
        this.weight = this.parameter("weight", weight);
      }
      forward(x: Tensor): Tensor {
        return torch.linear(x, this.weight);
      }
    }
    using tied = new Tied();
    expect(tied.namedParameters().map(([key]) => key)).toEqual(["a.weight"]);
    expect([...tied.stateDict().keys()]).toEqual(["a.weight", "b.weight"]);
  });
});

describe("forward", () => {
  test("frees its temporaries and returns to the surrounding scope", () => {
    using net = new Net();
    using x = torch.randn([4, 3]);
    const before = torch.memory().tensors;
    const y = net.forward(x);
    expect(torch.memory().tensors).toBe(before + 1);
    y.dispose();
    torch.scope(() => {
      net.forward(x);
    });
    expect(torch.memory().tensors).toBe(before);
  });

  test("frees its temporaries when it throws", () => {
    using net = new Net();
    using x = torch.randn([4, 5]);
    const before = torch.memory().tensors;
    expect(() => net.forward(x)).toThrow();
    expect(torch.memory().tensors).toBe(before);
  });

  test("may take and return anything", () => {
    class Pair extends Module<[Tensor, number], { sum: Tensor; product: Tensor }> {
      forward(x: Tensor, factor: number): { sum: Tensor; product: Tensor } {
        return { sum: x.mul(2).add(factor), product: x.mul(factor) };
      }
    }
    using pair = new Pair();
    torch.scope(() => {
      const { sum, product } = pair.forward(torch.ones([1]), 3);
      expect([sum.item(), product.item()]).toEqual([5, 3]);
    });
  });
});

describe("modes, conversion, gradients", () => {
  test("train and eval reach every level", () => {
    using net = new Net();
    expect([net.training, net.eval().norm.training, net.train().norm.training]).toEqual([true, false, true]);
  });

  test("to() keeps tensors, requires_grad and integer buffers; gradients move along", () => {
    using net = new Net();
    const { weight } = net.first;
    torch.scope(() => net.forward(torch.randn([4, 3])).sum().backward());
    net.to("float64");
    expect(net.first.weight).toBe(weight);
    expect([weight.dtype, weight.requiresGrad, weight.isLeaf, weight.grad?.dtype]).toEqual(["float64", true, true, "float64"]);
    expect(net.norm.numBatchesTracked.dtype).toBe("int64");
    torch.scope(() => net.forward(torch.randn([4, 3], { dtype: "float64" })).sum().backward());
    net.to("float64"); // nothing to do
    expect(weight.grad?.shape).toEqual([2, 3]);
  });

  test("zeroGrad drops gradients, requiresGrad_ freezes", () => {
    using net = new Net();
    torch.scope(() => net.forward(torch.randn([4, 3])).sum().backward());
    expect(net.parameters().every((p) => p.grad !== null)).toBe(true);
    net.zeroGrad();
    expect(net.parameters().every((p) => p.grad === null)).toBe(true);
    expect(net.requiresGrad_(false).parameters().some((p) => p.requiresGrad)).toBe(false);
  });

  test("dispose frees parameters, buffers and gradients", () => {
    const before = torch.memory().tensors;
    const net = new Net();
    torch.scope(() => net.forward(torch.randn([4, 3])).sum().backward());
    expect(net.scale.grad).not.toBeNull();
    net.dispose();
    expect(torch.memory().tensors).toBe(before);
    torch.scope(() => expect(() => net.forward(torch.zeros([2, 3]))).toThrow(torch.DisposedTensorError));
  });
});
