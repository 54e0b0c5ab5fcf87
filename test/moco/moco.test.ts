import { beforeEach, describe, expect, test } from "@jest/globals";
import { contrastiveLoss, createMoCo, MLPHead, MoCo, MoCoError, updateMomentumParameters } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { Linear } from "../../lib/nn/index.js";
import { AdamW } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { maxAbsolute, numbers, relativeL2 } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

beforeEach(() => torch.manualSeed(0));

expectNoTensorsLeft();

function tinyMoCo(options: { stopGradConv1?: boolean; stem?: "patch" | "conv" } = {}): MoCo {
  const patchSize = options.stem === "conv" ? 16 : 8;
  return createMoCo({
    encoder: (numClasses) => new VisionTransformer({ imageSize: 32, patchSize, embedDim: 48, depth: 2, numHeads: 4, numClasses, ...options }),
    dim: 16,
    mlpDim: 32,
    temperature: 0.2,
  });
}

function views(count = 4): [Tensor, Tensor] {
  return [torch.randn([count, 3, 32, 32]), torch.randn([count, 3, 32, 32])];
}

describe("contrastiveLoss", () => {
  test("is what its formula says", () => {
    torch.scope(() => {
      const queries = torch.tensor([[2, 0], [0, 3]]);
      const keys = torch.tensor([[5, 0], [3, 4]]); // cosines [[1, 0.6], [0, 0.8]]
      const temperature = 0.5;
      const row = (own: number, other: number): number => Math.log(Math.exp(own / temperature) + Math.exp(other / temperature)) - own / temperature;
      const expected = (2 * temperature * (row(1, 0.6) + row(0.8, 0))) / 2;
      expect(contrastiveLoss(queries, keys, temperature).item()).toBeCloseTo(expected, 6);
    });
  });

  test("takes the keys of all processes, and finds its own by rank", () => {
    torch.scope(() => {
      const [queries, others, keys] = [torch.randn([3, 8]), torch.randn([3, 8]), torch.randn([3, 8])];
      const second = { rank: 1, gather: (own: Tensor) => torch.cat([torch.div(others, others.norm(2, [1], true)), own]) };
      const loss = contrastiveLoss(queries, keys, 1, second).item();
      // Order of the keys does not matter as long as the labels follow it.
      const third = { rank: 0, gather: (own: Tensor) => torch.cat([own, torch.div(others, others.norm(2, [1], true))]) };
      expect(loss).toBeCloseTo(contrastiveLoss(queries, keys, 1, third).item() as number, 5);
      expect(loss).toBeGreaterThan(contrastiveLoss(queries, keys, 1).item() as number);
    });
  });

  test("gives gradient to the queries alone, and is computed in float32 under autocast", () => {
    torch.scope(() => {
      const queries = torch.randn([4, 8]).requiresGrad_();
      const keys = torch.randn([4, 8]).requiresGrad_();
      const exact = contrastiveLoss(queries, keys, 0.2);
      exact.backward();
      expect(keys.grad).toBeNull();
      expect(queries.grad!.isfinite().all().item()).toBe(true);
      const mixed = torch.autocast({ device: "cpu", dtype: "bfloat16" }, () => contrastiveLoss(queries, keys, 0.2));
      expect(mixed.item()).toBe(exact.item());
    });
  });

  test("a feature of zeros does not give NaN", () => {
    torch.scope(() => {
      const queries = torch.zeros([2, 4], {}).requiresGrad_();
      const loss = contrastiveLoss(queries, torch.randn([2, 4]), 1);
      loss.backward();
      expect(queries.grad!.isfinite().all().item()).toBe(true);
    });
  });
});

describe("MLPHead", () => {
  test("both views at once equal two calls, running statistics and gradients included", () => {
    const build = (): MLPHead => new MLPHead({ layers: 3, inputDim: 6, hiddenDim: 8, outputDim: 4, lastBatchNorm: true });
    const [together, apart] = [build(), build()];
    apart.loadStateDict(together.stateDict());
    [together, apart].forEach((head) => head.to("float64"));
    torch.scope(() => {
      const features = torch.randn([10, 6]).to("float64");
      const weights = torch.randn([10, 4]).to("float64");
      const one = together.forwardViews(features);
      const two = torch.cat(features.chunk(2, 0).map((view) => apart.forward(view)));
      expect(maxAbsolute(numbers(one), numbers(two))).toBeLessThan(1e-14);
      for (const output of [one, two]) output.mul(weights).sum().backward();
      const others = apart.stateDict();
      for (const [key, tensor] of together.stateDict()) {
        expect(maxAbsolute(numbers(tensor), numbers(others.get(key)!))).toBeLessThan(1e-14);
        if (tensor.grad) expect(maxAbsolute(numbers(tensor.grad), numbers(others.get(key)!.grad!))).toBeLessThan(1e-12);
      }
      expect(together.stateDict().get("1.num_batches_tracked")!.item()).toBe(2);
    });
    [together, apart].forEach((head) => head.dispose());
  });

  test("computes in float32 under autocast too", () => {
    using head = new MLPHead({ layers: 2, inputDim: 6, hiddenDim: 8, outputDim: 4, lastBatchNorm: true });
    torch.scope(() => {
      const features = torch.randn([10, 6]).to("bfloat16"); // as an encoder under autocast gives them
      const exact = head.forwardViews(features.to("float32"));
      const mixed = torch.autocast({ device: "cpu", dtype: "bfloat16" }, () => head.forwardViews(features));
      expect(mixed.dtype).toBe("float32");
      expect(mixed.bytes()).toEqual(exact.bytes());
    });
  });

  test("has no biases, and no scale and shift at the end", () => {
    using head = new MLPHead({ layers: 2, inputDim: 6, hiddenDim: 8, outputDim: 4, lastBatchNorm: true });
    expect(head.namedParameters().map(([name]) => name)).toEqual(["0.weight", "1.weight", "1.bias", "3.weight"]);
    expect([...head.stateDict().keys()].slice(-3)).toEqual(["4.running_mean", "4.running_var", "4.num_batches_tracked"]);
  });
});

describe("momentum update", () => {
  test("is the weighted mean, and leaves equal parameters equal to the bit", () => {
    torch.scope(() => {
      const base = [torch.randn([50]), torch.randn([50])];
      const momentum = [torch.randn([50]), base[1].clone()];
      const expected = numbers(momentum[0].mul(0.99).add(base[0].mul(0.01)));
      updateMomentumParameters(momentum, base, 0.99);
      expect(relativeL2(numbers(momentum[0]), expected)).toBeLessThan(1e-6);
      for (let step = 0; step < 100; step++) updateMomentumParameters(momentum, base, 0.99);
      expect(momentum[1].bytes()).toEqual(base[1].bytes());
    });
  });

  test("with the momentum on the device as with a number, and equal parameters stay equal to the bit", () => {
    torch.scope(() => {
      // The third one's memory is in another order than its dimensions, as that of a convolution's weights is.
      const base = [torch.randn([50]), torch.randn([50]), torch.randn([4, 2, 2, 3]).permute([0, 3, 1, 2]), torch.tensor([0, -0, 1e-40])];
      const [number, device] = [0, 1].map(() => [torch.zeros([50]), base[1].clone(), torch.zerosLike(base[2]), base[3].clone()]);
      const share = torch.zeros([], { dtype: "float32" });
      for (let step = 0; step < 100; step++) {
        const momentum = 0.99 + step / 10_000;
        updateMomentumParameters(number, base, momentum);
        updateMomentumParameters(device, base, share.fill_(1 - momentum));
      }
      for (const i of [0, 2]) expect(relativeL2(numbers(device[i]), numbers(number[i]))).toBeLessThan(1e-6);
      for (const i of [1, 3]) expect(device[i].bytes()).toEqual(base[i].bytes());
      updateMomentumParameters(device, base, share.fill_(0));
      expect(numbers(device[0])).not.toEqual(numbers(base[0]));
    });
  });

  test("a network that keeps its momentum on the device moves as one that does not", () => {
    const [plain, kept] = [0, 1].map(() => {
      torch.manualSeed(2);
      return tinyMoCo({ stopGradConv1: true });
    });
    kept.keepMomentumOnDevice();
    for (const each of [plain, kept]) {
      torch.noGrad(() => each.baseEncoder.parameters().filter(({ requiresGrad }) => requiresGrad).forEach((parameter) => parameter.add_(1)));
      for (const momentum of [0.9, 0.5, 1, 0.99]) each.updateMomentumEncoder(momentum);
    }
    const [a, b] = [plain, kept].map(({ momentumEncoder }) => momentumEncoder.parameters().flatMap((parameter) => [...numbers(parameter)]));
    expect(relativeL2(b, a)).toBeLessThan(1e-6);
    expect(b).not.toEqual(kept.baseEncoder.parameters().flatMap((parameter) => [...numbers(parameter)]));
    [plain, kept].forEach((each) => each.dispose());
  });
});

describe("MoCo", () => {
  test("starts with equal encoders, of which the momentum encoder is frozen", () => {
    using moco = tinyMoCo({ stopGradConv1: true });
    const parameters = new Map(moco.namedParameters());
    for (const [name, parameter] of parameters) {
      if (!name.startsWith("momentum_encoder")) continue;
      const base = parameters.get(name.replace("momentum_encoder", "base_encoder"))!;
      expect(parameter.requiresGrad).toBe(false);
      expect(parameter.bytes()).toEqual(base.bytes());
    }
    const frozen = [...parameters].filter(([name, { requiresGrad }]) => name.startsWith("base_encoder") && !requiresGrad).map(([name]) => name);
    expect(frozen).toEqual(["base_encoder.pos_embed", "base_encoder.patch_embed.proj.weight", "base_encoder.patch_embed.proj.bias"]);
  });

  test("a frozen patch projection is computed once, with the same result as twice", () => {
    using moco = tinyMoCo({ stopGradConv1: true });
    let calls = 0;
    for (const encoder of [moco.baseEncoder, moco.momentumEncoder] as VisionTransformer[]) {
      const { embedPatches } = encoder;
      encoder.embedPatches = (images) => {
        calls++;
        return embedPatches.call(encoder, images);
      };
    }
    torch.scope(() => {
      const [x1, x2] = views();
      const shared = moco.forward(x1, x2, 1).item();
      expect(calls).toBe(2); // one for each view
      const state = new Map([...moco.stateDict()].map(([key, tensor]) => [key, tensor.clone()]));
      const drifted = "momentum_encoder.patch_embed.proj.bias";
      state.set(drifted, state.get(drifted)!.add(1e-7)); // as a checkpoint of upstream has it
      moco.loadStateDict(state);
      const apart = moco.forward(x1, x2, 1).item() as number;
      expect(calls).toBe(6);
      expect(shared).toBeCloseTo(apart, 4);
      moco.baseEncoder.requiresGrad_(true);
      state.set(drifted, state.get(drifted.replace("momentum", "base"))!);
      moco.loadStateDict(state);
      moco.forward(x1, x2, 1);
      expect(calls).toBe(10); // no longer frozen
    });
  });

  test.each([{}, { stem: "conv" as const }])("%j: a step moves the base encoder, then the momentum encoder, and holds no more tensors than the first", (options) => {
    const moco = tinyMoCo(options);
    const optimizer = new AdamW(moco.parameters(), { lr: 1e-3 });
    const [x1, x2] = views();
    const step = (): number =>
      torch.scope(() => {
        const loss = moco.forward(x1, x2, 0.9);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss.item() as number;
      });
    const before = numbers(moco.stateDict().get("momentum_encoder.cls_token")!);
    step(); // the encoders are equal until the first step has ended
    expect(maxAbsolute(numbers(moco.stateDict().get("momentum_encoder.cls_token")!), before)).toBe(0);
    const held = torch.memory();
    const losses = Array.from({ length: 5 }, step);
    expect(maxAbsolute(numbers(moco.stateDict().get("momentum_encoder.cls_token")!), before)).toBeGreaterThan(0);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(torch.memory()).toEqual(held);
    for (const [name, buffer] of moco.namedBuffers()) if (name.endsWith("num_batches_tracked")) expect(buffer.item()).toBe(12);
    optimizer.zeroGrad();
    for (const each of [optimizer, moco, x1, x2]) each.dispose();
  });

  test("runs in bfloat16 under autocast close to float32", () => {
    using moco = tinyMoCo({ stopGradConv1: true });
    torch.scope(() => {
      // BatchNorm magnifies bfloat16's rounding, the more so in a small batch.
      const [x1, x2] = views(32);
      const exact = moco.forward(x1, x2, 1).item() as number;
      const mixed = torch.autocast({ device: "cpu", dtype: "bfloat16" }, () => moco.forward(x1, x2, 1));
      mixed.backward();
      expect(mixed.dtype).toBe("float32");
      expect(Math.abs((mixed.item() as number) - exact)).toBeLessThan(0.05);
    });
    moco.zeroGrad();
  });

  test("is built by name", () => {
    using resnet = createMoCo({ encoder: "resnet18", dim: 8, mlpDim: 16 });
    expect(torch.scope(() => resnet.stateDict().get("base_encoder.layer1.0.bn2.weight")!.abs().sum().item())).toBe(0);
    const keys = [...resnet.stateDict().keys()];
    expect(keys.filter((key) => key.startsWith("base_encoder.fc")).length).toBe(1 + 5 + 1 + 3);
    expect(keys.slice(-7)).toEqual([
      "predictor.0.weight", "predictor.1.weight", "predictor.1.bias", "predictor.1.running_mean", "predictor.1.running_var",
      "predictor.1.num_batches_tracked", "predictor.3.weight",
    ]);
    using vit = createMoCo({ encoder: "vit_small", imageSize: 32, dim: 8, mlpDim: 16, stopGradConv1: true });
    expect(vit.baseEncoder.children.get("patch_embed")!.parameters().every(({ requiresGrad }) => !requiresGrad)).toBe(true);
  });

  test("begins with another encoder's weights in both encoders, and keeps its projectors", () => {
    using moco = tinyMoCo();
    using other = tinyMoCo();
    const head = moco.baseEncoder.head.stateDict();
    const before = numbers(head.get("0.weight")!);
    const backbone = new Map([...other.baseEncoder.stateDict()].filter(([key]) => !key.startsWith("head.")));
    moco.loadBackbone(backbone);
    for (const encoder of [moco.baseEncoder, moco.momentumEncoder]) {
      const state = encoder.stateDict();
      expect([...backbone].filter(([key, tensor]) => !torch.equal(state.get(key)!, tensor))).toEqual([]);
    }
    expect(numbers(head.get("0.weight")!)).toEqual(before);
    expect(moco.parameters().length).toBe(other.parameters().length);
    backbone.delete("norm.bias");
    expect(() => moco.loadBackbone(backbone)).toThrow(/norm\.bias/);
  });

  test("errors name the value and what it must be", () => {
    using moco = tinyMoCo();
    const tiny = (numClasses: number): VisionTransformer => new VisionTransformer({ imageSize: 32, embedDim: 48, depth: 1, numClasses });
    expect(() => createMoCo({ encoder: tiny, temperature: 0 })).toThrow("temperature is 0 and must be above 0");
    expect(() => createMoCo({ encoder: tiny, dim: 2.5 })).toThrow("dim is 2.5");
    const linear = new Linear(2, 2);
    expect(() => createMoCo({ encoder: () => linear })).toThrow(MoCoError);
    linear.dispose();
    torch.scope(() => {
      const [x1, x2] = views();
      expect(() => moco.forward(x1, x2.narrow(0, 0, 2), 0.9)).toThrow(/shapes \[4,3,32,32\] and \[2,3,32,32\]/);
      expect(() => moco.forward(x1, x2, 1.5)).toThrow("momentum is 1.5");
    });
  });
});
