/** Layers against their definitions, worked out by hand. */
import { describe, expect, test } from "@jest/globals";
import {
  BatchNorm1d, BatchNorm2d, BatchNormError, Conv2d, GELU, Identity, LayerNorm, Linear, MaxPool2d, ReLU, Sequential,
} from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { maxAbsolute, numbers } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

function expectClose(found: Tensor, expected: readonly number[], limit = 1e-6): void {
  expect(maxAbsolute(numbers(found), expected)).toBeLessThan(limit);
}

function fill(tensor: Tensor, values: readonly number[]): void {
  torch.noGrad(() => torch.scope(() => void tensor.copy_(torch.tensor([...values], tensor.shape))));
}

describe("Linear", () => {
  test("multiplies by the transposed weight and adds the bias, on the last dimension", () => {
    using layer = new Linear(2, 3);
    fill(layer.weight, [1, 2, 3, 4, 5, 6]);
    if (layer.bias) fill(layer.bias, [10, 20, 30]);
    torch.scope(() => {
      expectClose(layer.forward(torch.tensor([1, -1], [1, 1, 2])), [9, 19, 29]);
      expect(layer.forward(torch.zeros([5, 4, 2])).shape).toEqual([5, 4, 3]);
    });
  });

  test("has no bias when told so", () => {
    using layer = new Linear(2, 3, { bias: false });
    expect(layer.bias).toBeNull();
    expect([...layer.stateDict().keys()]).toEqual(["weight"]);
  });
});

describe("Conv2d", () => {
  test("stride, padding and groups", () => {
    using layer = new Conv2d(4, 6, 3, { stride: 2, padding: 1, groups: 2, bias: false });
    expect(layer.weight.shape).toEqual([6, 2, 3, 3]);
    torch.scope(() => expect(layer.forward(torch.zeros([1, 4, 8, 10])).shape).toEqual([1, 6, 4, 5]));
  });

  test("rectangular kernels and dilation", () => {
    using layer = new Conv2d(1, 1, [1, 2], { dilation: 2 });
    fill(layer.weight, [1, 10]);
    if (layer.bias) fill(layer.bias, [100]);
    torch.scope(() => expectClose(layer.forward(torch.tensor([1, 2, 3, 4], [1, 1, 1, 4])), [131, 142]));
  });

  test("channels last changes the layout of the weight and nothing else", () => {
    using plain = new Conv2d(3, 5, 3);
    using last = new Conv2d(3, 5, 3, { channelsLast: true });
    last.loadStateDict(plain.stateDict());
    expect(last.weight.strides).toEqual([27, 1, 9, 3]);
    expect(last.weight.data()).toEqual(plain.weight.data());
    torch.scope(() => {
      const x = torch.randn([2, 3, 6, 6]);
      expectClose(last.forward(x), [...numbers(plain.forward(x))], 1e-5);
    });
  });

  test("groups must divide the channels", () => {
    expect(() => new Conv2d(3, 4, 3, { groups: 2 })).toThrow(/divisible by groups = 2/);
  });
});

describe("BatchNorm", () => {
  test("training normalises by the batch and records it with momentum 0.1, the variance unbiased", () => {
    using layer = new BatchNorm1d(1);
    torch.scope(() => {
      // Mean 3, biased variance 5, unbiased 20/3.
      const deviation = Math.sqrt(5 + 1e-5);
      expectClose(layer.forward(torch.tensor([0, 2, 4, 6], [4, 1])), [-3, -1, 1, 3].map((x) => x / deviation));
    });
    expectClose(layer.runningMean, [0.3]);
    expectClose(layer.runningVar, [0.9 + 20 / 30]);
    expect(layer.numBatchesTracked.item()).toBe(1);
  });

  test("evaluation uses the running statistics and changes nothing", () => {
    using layer = new BatchNorm2d(2).eval();
    fill(layer.runningMean, [1, 2]);
    fill(layer.runningVar, [4, 9]);
    if (layer.weight && layer.bias) {
      fill(layer.weight, [2, 3]);
      fill(layer.bias, [5, 7]);
    }
    torch.scope(() => expectClose(layer.forward(torch.tensor([3, 8], [1, 2, 1, 1])), [7, 13], 1e-4));
    expectClose(layer.runningMean, [1, 2]);
    expect(layer.numBatchesTracked.item()).toBe(0);
  });

  test("without affine it has running statistics only", () => {
    using layer = new BatchNorm1d(3, { affine: false });
    expect([...layer.stateDict().keys()]).toEqual(["running_mean", "running_var", "num_batches_tracked"]);
    torch.scope(() => expectClose(layer.forward(torch.tensor([1, 1, 1, 3, 3, 3], [2, 3])), [-1, -1, -1, 1, 1, 1], 1e-4));
  });

  test("refuses one value per channel in training, and other ranks", () => {
    using layer = new BatchNorm1d(3);
    using image = new BatchNorm2d(3);
    torch.scope(() => {
      expect(() => layer.forward(torch.zeros([1, 3]))).toThrow(BatchNormError);
      expect(() => layer.forward(torch.zeros([1, 3]))).toThrow(/shape \[1,3\].*batch of at least 2/);
      expect(layer.numBatchesTracked.item()).toBe(0);
      expect(layer.eval().forward(torch.zeros([1, 3])).shape).toEqual([1, 3]);
      expect(layer.train().forward(torch.zeros([1, 3, 2])).shape).toEqual([1, 3, 2]);
      expect(() => layer.forward(torch.zeros([1, 3, 2, 2]))).toThrow(/2 or 3 dimensions/);
      expect(() => image.forward(torch.zeros([4, 3]))).toThrow(/4 dimensions/);
    });
  });
});

describe("the rest", () => {
  test("LayerNorm normalises the last dimension", () => {
    using layer = new LayerNorm(2, 0);
    fill(layer.weight, [2, 3]);
    fill(layer.bias, [10, 20]);
    torch.scope(() => expectClose(layer.forward(torch.tensor([1, 5, 7, 7.5], [2, 2])), [8, 23, 8, 23], 1e-4));
  });

  test("ReLU, in place when told so", () => {
    using x = torch.tensor([-1, 2]);
    using fresh = new ReLU().forward(x);
    expect([...(fresh.data() as Float32Array)]).toEqual([0, 2]);
    expect([...(x.data() as Float32Array)]).toEqual([-1, 2]);
    expect(new ReLU(true).forward(x)).toBe(x);
    expect([...(x.data() as Float32Array)]).toEqual([0, 2]);
  });

  test("GELU is the exact one", () => {
    torch.scope(() => expectClose(new GELU().forward(torch.tensor([-1, 0, 1, 2])), [-0.15865525, 0, 0.84134475, 1.9544997]));
  });

  test("Identity returns its input", () => {
    using x = torch.ones([1]);
    expect(new Identity().forward(x)).toBe(x);
  });

  test("MaxPool2d", () => {
    torch.scope(() => {
      const x = torch.arange(16, { dtype: "float32" }).reshape([1, 1, 4, 4]);
      expectClose(new MaxPool2d(2).forward(x), [5, 7, 13, 15]);
      expectClose(new MaxPool2d(3, { stride: 2, padding: 1 }).forward(x), [5, 7, 13, 15]);
    });
  });

  test("Sequential numbers its layers, runs them and leaves its input alone", () => {
    using net = new Sequential(new Identity(), new Linear(2, 3), new ReLU(true), new Linear(3, 1, { bias: false }));
    using x = torch.randn([4, 2]);
    expect([...net.stateDict().keys()]).toEqual(["1.weight", "1.bias", "3.weight"]);
    const before = torch.memory().tensors;
    using y = net.forward(x);
    expect(y.shape).toEqual([4, 1]);
    expect(torch.memory().tensors).toBe(before + 1);
    expect(x.disposed).toBe(false);
    expect(new Sequential().forward(x)).toBe(x);
  });
});
