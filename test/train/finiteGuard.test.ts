import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { createMoCo, type MoCo } from "../../lib/moco/index.js";
import { AdamW, GradScaler, LARS } from "../../lib/optim/index.js";
import { readRunLog } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { FiniteGuard, NonFiniteError } from "../../lib/train/runs/finiteGuard.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { withFolder } from "../data/pixels.js";
import { runTiny, tinyOptions } from "./tinyRun.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

function nonFiniteKeys(moco: MoCo): string[] {
  return torch.scope(() => [...moco.stateDict()].filter(([, tensor]) => !torch.isfinite(tensor).all().item()).map(([key]) => key));
}

/** Trains until the run is stopped, and looks at the network as it was left. */
async function diverge(changes: Partial<PretrainOptions>): Promise<{ error: NonFiniteError; bad: string[] }> {
  let network: MoCo | undefined;
  let bad: string[] | undefined;
  const failure = await runTiny({ warmupEpochs: 0, epochs: 20, ...changes }, {
    onStart: (_, moco) => {
      network = moco;
      const dispose = moco.dispose.bind(moco);
      moco.dispose = () => {
        bad = nonFiniteKeys(moco);
        dispose();
      };
    },
  }).then(() => null, (error: unknown) => error);
  expect(failure).toBeInstanceOf(NonFiniteError);
  expect(network).toBeDefined();
  return { error: failure as NonFiniteError, bad: bad! };
}

describe("a run that diverges stops with finite weights and statistics in both encoders", () => {
  test.each<[string, Partial<PretrainOptions>]>([
    ["a rate beyond float32", { lr: 1e39 }],
    ["a rate of 1e38", { lr: 1e38 }],
    ["a rate of 1e30", { lr: 1e30 }],
    ["a rate of 1e18", { lr: 1e18 }],
    ["LARS at 1e39", { lr: 1e39, optimizer: "lars" }],
    ["LARS at 1e30", { lr: 1e30, optimizer: "lars" }],
    ["LARS at 1e12", { lr: 1e12, optimizer: "lars" }],
    ["LARS with a ResNet", { lr: 1e20, optimizer: "lars", encoder: "resnet18", imageSize: 32 }],
    ["weight decay beyond reason", { lr: 1, weightDecay: 1e30 }],
    ["weight decay beyond float32", { lr: 1, weightDecay: 1e39 }],
  ])("%s", async (_, changes) => {
    const { error, bad } = await diverge(changes);
    expect(bad).toEqual([]);
    expect(error.message).toMatch(/^Step \d+ .*stopped before the weights were changed/);
    expect(error.message).toContain("--lr");
    expect(error.epoch).toBe(Math.floor(error.step / 3));
  });
});

test("the log says how the run ended, and no checkpoint is written", async () => {
  await withFolder({}, async (out) => {
    const { error } = await diverge({ lr: 1e38, out });
    const { end, checkpoints, steps } = readRunLog(join(out, "log.jsonl"));
    expect(end).toMatchObject({ reason: "failed", message: error.message });
    expect(steps.length).toBe(error.step);
    expect(checkpoints).toHaveLength(Math.floor(error.step / 3));
  });
});

describe("each check", () => {
  const place = { step: 12, epoch: 4, stepInEpoch: 0, lr: 0.1 };
  const context = { precision: "fp32", warmupEpochs: 10, temperature: 0.2, weightDecay: 0.1 };

  function withGuard(check: (guard: FiniteGuard, moco: MoCo, scaler: GradScaler) => void, scale: number | null = null): void {
    const { encoder, dim, mlpDim, temperature } = tinyOptions;
    using moco = createMoCo({ encoder, dim, mlpDim, temperature });
    using scaler = new GradScaler({ enabled: scale !== null, initScale: scale ?? 1 });
    using guard = new FiniteGuard(moco, scaler, context);
    try {
      torch.scope(() => check(guard, moco, scaler));
    } finally {
      moco.zeroGrad();
    }
  }

  function setGradient(moco: MoCo, key: string, value: number): void {
    const [, parameter] = moco.namedParameters().find(([name]) => name === key)!;
    parameter.grad = torch.fullLike(parameter, value);
  }

  test.each([NaN, Infinity])("refuses the loss %p", (value) => {
    withGuard((guard) => {
      expect(() => guard.check(torch.tensor(value), place)).toThrow(`the loss is ${value}`);
      expect(guard.check(torch.tensor(4.5), place)).toMatchObject({ loss: 4.5, gradientNorm: 0, gradientNorms: new Map(), further: [] });
    });
  });

  test("names the gradients that are not finite, and the step", () => {
    withGuard((guard, moco) => {
      setGradient(moco, "base_encoder.blocks.1.attn.qkv.bias", NaN);
      setGradient(moco, "base_encoder.norm.weight", 1);
      try {
        guard.check(torch.tensor(1), place);
        throw new Error("should not come here");
      } catch (error) {
        expect(error).toBeInstanceOf(NonFiniteError);
        expect(error).toMatchObject({ what: "gradient", step: 12, epoch: 4 });
        expect((error as Error).message).toContain("the gradient of base_encoder.blocks.1.attn.qkv.bias is not finite");
      }
    });
  });

  test("in float16 a gradient may overflow while there is scale left", () => {
    withGuard((guard, moco) => {
      setGradient(moco, "base_encoder.norm.weight", Infinity);
      expect(guard.check(torch.tensor(1), place)).toMatchObject({ loss: 1, gradientNorm: Infinity });
    }, 65536);
    withGuard((guard, moco) => {
      setGradient(moco, "base_encoder.norm.weight", Infinity);
      expect(() => guard.check(torch.tensor(1), place)).toThrow("not finite");
    }, 1);
  });

  test("gives back the statistics and the momentum encoder that the refused step's forward pass has changed", () => {
    withGuard((guard, moco) => {
      guard.remember();
      torch.noGrad(() => moco.baseEncoder.parameters().forEach((parameter) => parameter.add_(0.1)));
      const state = (): unknown[] => [...moco.stateDict().values()].map((tensor) => tensor.toArray());
      const before = state();
      const view = torch.full([4, 3, 16, 16], NaN);
      const loss = moco.forward(view, view, 0.99);
      expect(nonFiniteKeys(moco).length).toBeGreaterThan(0);
      expect(state()).not.toEqual(before);
      expect(() => guard.check(loss, place)).toThrow(NonFiniteError);
      expect(state()).toEqual(before);
      expect(nonFiniteKeys(moco)).toEqual([]);
    });
  });

  test.each([
    ["AdamW", (moco: MoCo) => new AdamW(moco.parameters(), { lr: 1e30, weightDecay: 0.1 })],
    ["LARS", (moco: MoCo) => new LARS(moco.parameters(), { lr: 1e30, weightDecay: 1e-6 })],
  ])("an update that it lets pass leaves %s's weights finite", (_, create) => {
    withGuard((guard, moco) => {
      using optimizer = create(moco);
      for (const [name] of moco.baseEncoder.namedParameters()) setGradient(moco, `base_encoder.${name}`, 5);
      guard.check(torch.tensor(1), { ...place, lr: 1e28 });
      optimizer.setLearningRate(1e28);
      optimizer.step();
      expect(nonFiniteKeys(moco)).toEqual([]);
      expect(() => guard.check(torch.tensor(1), { ...place, lr: 1e28 })).toThrow("would overflow");
    });
  });
});
