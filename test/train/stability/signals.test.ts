/** The signals of a step against sums over the gradients and weights themselves, and trainings with a fault planted. */
import { expect, test } from "@jest/globals";
import { createMoCo, type MoCo } from "../../../lib/moco/index.js";
import { ResNet, VisionTransformer } from "../../../lib/models/index.js";
import { GradScaler } from "../../../lib/optim/index.js";
import type { StepSignals } from "../../../lib/report/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { FiniteGuard } from "../../../lib/train/runs/finiteGuard.js";
import { layerNorms } from "../../../lib/train/stability/gradientLayers.js";
import { SignalReader, type Signals } from "../../../lib/train/stability/signalReader.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { runTiny, tinyOptions } from "../tinyRun.js";

expectNoTensorsLeft();

const place = { step: 0, epoch: 0, stepInEpoch: 0, lr: 0.1 };
const temperature = 0.2;

/** One step of a network in float64, its signals, and what `look` makes of it. */
function oneStep<T>(moco: MoCo, look: (signals: Signals, loss: number) => T, step = 0): T {
  using reader = { read: new SignalReader(moco), [Symbol.dispose]() { this.read.dispose(); } };
  using scaler = new GradScaler();
  using guard = new FiniteGuard(moco, scaler, { precision: "fp32", warmupEpochs: 0, weightDecay: 0 });
  return torch.scope(() => {
    const views = [0, 1].map(() => torch.randn([6, 3, 32, 32], { dtype: "float64" })) as [Tensor, Tensor];
    const output = moco.forward(...views, 0.9);
    output.backward();
    const found = guard.judge(guard.look(output, [...reader.read.contrast(), ...reader.read.distance(step)]), place);
    const result = look(reader.read.read(found), found.loss);
    moco.zeroGrad();
    return result;
  });
}

/** Norm over the gradients whose names match, element by element. */
function gradientNormOf(moco: MoCo, pattern: RegExp): number {
  let sum = 0;
  for (const [name, { grad }] of moco.namedParameters()) {
    if (pattern.test(name) && grad !== null) for (const value of grad.data()) sum += Number(value) ** 2;
  }
  return Math.sqrt(sum);
}

const encoders = {
  vit: (numClasses: number) => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 16, depth: 3, numHeads: 2, numClasses }),
  frozen: (numClasses: number) =>
    new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 16, depth: 3, numHeads: 2, numClasses, stopGradConv1: true }),
  resnet: (numClasses: number) => new ResNet({ block: "basic", layers: [2, 1, 1, 1], width: 4, numClasses }),
};
const stems = { vit: /^base_encoder\.patch_embed\./, resnet: /^base_encoder\.(conv1|bn1)\./, frozen: null };
const blocks = {
  vit: [0, 1, 2].map((i) => new RegExp(`^base_encoder\\.blocks\\.${i}\\.`)),
  frozen: [0, 1, 2].map((i) => new RegExp(`^base_encoder\\.blocks\\.${i}\\.`)),
  resnet: ["1\\.0", "1\\.1", "2\\.0", "3\\.0", "4\\.0"].map((at) => new RegExp(`^base_encoder\\.layer${at}\\.`)),
};

test.each(["vit", "frozen", "resnet"] as const)("gradients by layer, features and the encoders' distance of a %s", (kind) => {
  torch.manualSeed(3);
  using moco = createMoCo({ encoder: encoders[kind], dim: 8, mlpDim: 16, temperature }).to("float64");
  // Encoders that differ, as in the middle of a training.
  torch.noGrad(() => torch.scope(() => moco.momentumEncoder.parameters().forEach((parameter) => void parameter.mul_(1.1))));
  oneStep(moco, ({ gradients, stemRatio, firstBlockRatio, contrast, encoderDistance }, loss) => {
    const expected = blocks[kind].map((pattern) => gradientNormOf(moco, pattern));
    const stem = stems[kind] === null ? null : gradientNormOf(moco, stems[kind]!);
    const sorted = [...expected].sort((a, b) => a - b);
    const middle = sorted[(sorted.length - 1) / 2]!;
    expect(gradients!.blocks).toEqual(expected.map((norm) => expect.closeTo(norm, 10)));
    expect(gradients!.stem).toEqual(stem === null ? null : expect.closeTo(stem, 10));
    expect(gradients!.projector).toBeCloseTo(gradientNormOf(moco, /^base_encoder\.(head|fc)\./), 10);
    expect(gradients!.predictor).toBeCloseTo(gradientNormOf(moco, /^predictor\./), 10);
    if (stem === null) expect(stemRatio).toBeUndefined();
    else expect(stemRatio).toBeCloseTo(stem / middle, 8);
    expect(firstBlockRatio).toBeCloseTo(expected[0]! / middle, 8);

    // Of the symmetric loss, guessing gives 2τ·ln(N) twice.
    expect(contrast!.lossOverChance).toBeCloseTo(loss / (2 * 2 * temperature * Math.log(6)), 10);

    let [difference, size] = [0, 0];
    moco.baseEncoder.parameters().forEach((parameter, i) => {
      if (!parameter.requiresGrad) return;
      const follower = moco.momentumEncoder.parameters()[i]!.data();
      parameter.data().forEach((value: number | bigint, j: number) => {
        difference += (Number(value) - Number(follower[j])) ** 2;
        size += Number(value) ** 2;
      });
    });
    expect(difference).toBeGreaterThan(0);
    expect(encoderDistance).toBeCloseTo(Math.sqrt(difference / size), 10);
  });
});

test("the encoders' distance is measured in every tenth step", () => {
  using moco = createMoCo({ encoder: encoders.vit, dim: 8, mlpDim: 16, temperature }).to("float64");
  expect([9, 10, 11, 20].map((step) => oneStep(moco, ({ encoderDistance }) => encoderDistance !== undefined, step))).toEqual([false, true, false, true]);
});

test("parameters of no layer are left out of the layers", () => {
  const norms = new Map([["base_encoder.cls_token", 5], ["base_encoder.norm.weight", 7], ["base_encoder.blocks.10.mlp.fc1.weight", 3], ["base_encoder.blocks.10.mlp.fc1.bias", 4]]);
  expect(layerNorms(norms)).toEqual({ stem: null, blocks: [5], projector: null, predictor: null });
});

test("a run logs them in each step, and not with watch: false; the weights are the same", async () => {
  const weights = (moco: MoCo): number[] => [...moco.baseEncoder.parameters()[0]!.data()].map(Number);
  let [watched, unwatched]: number[][] = [[], []];
  const { steps } = await runTiny({}, {}, (moco) => (watched = weights(moco)));
  const { steps: without } = await runTiny({ watch: false }, {}, (moco) => (unwatched = weights(moco)));
  expect(unwatched).toEqual(watched);
  expect(without.map(({ loss }) => loss)).toEqual(steps.map(({ loss }) => loss));
  expect(without.every(({ signals }) => signals === undefined)).toBe(true);
  for (const { signals, loss, step } of steps) {
    const { gradients, contrast, encoderDistance, alerts } = signals!;
    expect([gradients!.stem, gradients!.blocks.length, alerts]).toEqual([null, 2, undefined]);
    expect(contrast!.lossOverChance).toBeCloseTo(loss / (4 * temperature * Math.log(4)), 4);
    expect([0, 25, 50, 75, 100, 12.5, 37.5, 62.5, 87.5]).toContain(contrast!.accuracy);
    expect(encoderDistance !== undefined).toBe(step % 10 === 0);
  }
});

/** A ViT that sees the same in every image. */
class BlindTransformer extends VisionTransformer {
  override forwardClassToken(patchTokens: Tensor): Tensor {
    return super.forwardClassToken(patchTokens).mul(0).add(torch.linspace(-1, 1, 16));
  }
}

test("features that are all the same are told as collapse, once in a hundred steps", async () => {
  const warnings: string[] = [];
  const encoder = (numClasses: number) => new BlindTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses });
  const { steps } = await runTiny({ encoder, epochs: 35 }, { onWarning: (message) => void warnings.push(message) });
  const signals = steps.map(({ signals }) => signals as StepSignals);
  expect(Math.max(...signals.map(({ contrast }) => contrast!.querySpread))).toBeLessThan(1e-3);
  const collapsed = signals.map(({ alerts }) => (alerts ?? []).includes("features 0% spread"));
  expect(collapsed).toEqual(signals.map((_, step) => step >= 4)); // not for one batch
  const told = warnings.filter((message) => message.includes("collapse"));
  expect(told.map((message) => /^step (\d+)/.exec(message)![1])).toEqual(["4", "104"]);
  expect(told[0]).toMatch(/--lr.*-b; now 4.*--moco-m; now 0\.99.*--moco-t/);
  expect(told[1]).toContain("99 more steps");
  expect(tinyOptions.batchSize).toBe(4);
});
