/** Mixed precision and loss scaling on a GPU. */
import { expect, test } from "@jest/globals";
import { createMoCo, type MoCo } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { AdamW, GradScaler } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { FiniteGuard } from "../../lib/train/runs/finiteGuard.js";
import { chooseKernels } from "../../lib/train/kernels.js";
import { createAutocast, type Precision } from "../../lib/train/options.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { stateBytes } from "../train/tinyRun.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

function buildMoCo(): MoCo {
  torch.manualSeed(11);
  const encoder = (numClasses: number): VisionTransformer =>
    new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 64, depth: 3, numHeads: 2, numClasses });
  return createMoCo({ encoder, dim: 32, mlpDim: 64, temperature: 0.2 }).to(gpu);
}

const views = (): [Tensor, Tensor] => {
  torch.manualSeed(12);
  return [torch.randn([64, 3, 32, 32]).to(gpu), torch.randn([64, 3, 32, 32]).to(gpu)];
};

/** Trains a few steps as `pretrain` does; scales that the steps ran at. */
function train(moco: MoCo, precision: Precision, steps: number, initScale = 65536): { losses: number[]; stepped: boolean[]; scales: number[] } {
  using optimizer = new AdamW(moco.parameters(), { lr: 1e-3, weightDecay: 0.1 });
  using scaler = new GradScaler({ enabled: precision === "fp16", device: gpu, initScale });
  using guard = new FiniteGuard(moco, scaler, { precision, warmupEpochs: 0, temperature: 0.2, weightDecay: 0.1 });
  const autocast = createAutocast({ precision, device: gpu });
  const result = { losses: [] as number[], stepped: [] as boolean[], scales: [] as number[] };
  torch.scope(() => {
    const [x1, x2] = views();
    for (let step = 0; step < steps; step++) {
      torch.scope(() => {
        guard.remember();
        const output = autocast(() => moco.forward(x1, x2, 0.99));
        scaler.scale(output).backward();
        scaler.unscale_(optimizer);
        result.losses.push(guard.check(output, { step, epoch: 0, stepInEpoch: step, lr: 1e-3 }).loss);
        result.scales.push(scaler.getScale());
        result.stepped.push(scaler.step(optimizer));
        scaler.update();
        optimizer.zeroGrad();
      });
    }
  });
  return result;
}

onGpu("precision on a GPU", () => {
  test.each<[Precision, number]>([["bf16", 3e-2], ["fp16", 1e-2]])("%s stays near float32 and weights stay float32", (precision, limit) => {
    torch.setBackendFlags({ tf32: false });
    using exact = buildMoCo();
    using mixed = buildMoCo();
    const [expected, found] = [train(exact, "fp32", 4).losses, train(mixed, precision, 4).losses];
    expect(found[0]).not.toBe(expected[0]);
    found.forEach((loss, i) => expect(Math.abs(loss / expected[i]! - 1)).toBeLessThan((i + 1) * limit));
    expect(new Set(mixed.parameters().map(({ dtype }) => dtype))).toEqual(new Set(["float32"]));
  });

  test("a scale that overflows is halved until it fits, and no weight moves before", () => {
    using moco = buildMoCo();
    const before = stateBytes(moco);
    const first = train(moco, "fp16", 1, 2 ** 40);
    expect(first.stepped).toEqual([false]);
    const after = stateBytes(moco);
    for (const [name] of moco.baseEncoder.namedParameters()) {
      expect(Buffer.compare(after.get(`base_encoder.${name}`)!, before.get(`base_encoder.${name}`)!)).toBe(0);
    }
    const { stepped, scales, losses } = train(moco, "fp16", 40, 2 ** 40);
    const fits = stepped.indexOf(true);
    expect(fits).toBeGreaterThan(0);
    expect(scales.slice(0, fits + 1)).toEqual(Array.from({ length: fits + 1 }, (_, i) => 2 ** (40 - i)));
    expect(losses.every(Number.isFinite)).toBe(true);
    torch.scope(() => moco.parameters().forEach((parameter) => expect(parameter.isfinite().all().item()).toBe(true)));
  });

  test("the scale on the device follows the one that is told", () => {
    using parameter = torch.ones([4], { device: gpu }).requiresGrad_();
    using optimizer = new AdamW([parameter]);
    using scaler = new GradScaler({ enabled: true, device: gpu, initScale: 6, growthInterval: 2, growthFactor: 3, backoffFactor: 0.25 });
    for (const [gradient, scale] of [[1, 6], [1, 18], [Infinity, 4.5], [1, 4.5], [NaN, 1.125]] as const) {
      torch.scope(() => {
        parameter.grad = torch.full([4], gradient, { dtype: "float32", device: gpu });
      });
      expect(scaler.step(optimizer)).toBe(Number.isFinite(gradient));
      scaler.update();
      expect(scaler.getScale()).toBe(scale);
      torch.scope(() => expect(scaler.scale(torch.ones([], { device: gpu })).item()).toBe(scale));
    }
    parameter.grad = null;
  });
});

onGpu("TF32", () => {
  test("rounds matrix products of float32 where a training asks for it, and not afterwards", () => {
    torch.setBackendFlags({ tf32: false });
    torch.scope(() => {
      const [a, b] = [torch.randn([256, 256], { device: gpu }), torch.randn([256, 256], { device: gpu })];
      const exact = a.to("float64").matmul(b.to("float64"));
      const error = (): number => a.matmul(b).sub(exact).abs().max().item() as number;
      const before = error();
      const kernels = chooseKernels({ device: gpu, deterministic: false, tf32: true });
      const rounded = error();
      kernels[Symbol.dispose]();
      expect(error()).toBe(before);
      if (torch.deviceProperties(gpu).bfloat16) expect(rounded).toBeGreaterThan(10 * before); // GPUs with bfloat16 have TF32 too
    });
  });
});
