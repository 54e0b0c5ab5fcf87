/** Five steps of fine-tuning in float64 against timm and PyTorch: positions, groups, mixing, loss, clipping, AdamW, average of the weights. */
import { expect, test } from "@jest/globals";
import { cutMixing, mixImages } from "../../lib/data/index.js";
import { encoderFromFile, ResNet, VisionTransformer, type Encoder } from "../../lib/models/index.js";
import { Linear } from "../../lib/nn/index.js";
import { AdamW, checkGradients, clipGradients, fineTuningRateAt } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import { readEncoder } from "../../lib/train/initialWeights.js";
import { ModelAverage } from "../../lib/train/finetuning/modelAverage.js";
import { parameterGroups } from "../../lib/train/finetuning/parameterGroups.js";
import { softTargetCrossEntropy, softTargets } from "../../lib/train/finetuning/softTargets.js";
import { maxAbsolute, numbers } from "../support/digest.js";
import { fixturePath, readJson, readNpz } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

interface Manifest {
  classes: number;
  options: { lr: number; weightDecay: number; layerDecay: number; smoothing: number; decay: number; clip: number };
  parts: { rates: number[] };
  trajectory: {
    groups: { lrScale: number; weightDecay: number; names: string[] }[];
    steps: { labels: number[]; mixing: { share: number; cut: boolean; row: number; column: number }; lr: number; loss: number; norm: number }[];
    keys: string[];
  };
}
const { classes, options, parts, trajectory } = readJson<Manifest>("finetune/manifest.json");
const arrays = readNpz<Float64Array>("finetune/trajectory.npz");

async function start(): Promise<VisionTransformer> {
  using read = await readEncoder(fixturePath("finetune/start.pth"), { numHeads: 2 });
  const model = encoderFromFile(read, { imageSize: 16 }) as VisionTransformer;
  model.replaceHead((width) => new Linear(width, classes));
  model.to("float64").requiresGrad_();
  torch.scope(() => torch.noGrad(() => {
    const { weight, bias } = model.head as Linear;
    const { data, shape } = arrays.get("head_weight")!;
    weight.copy_(torch.tensor(data, shape));
    bias!.zero_();
  }));
  return model;
}

function flat(model: Encoder): Float64Array {
  return Float64Array.from([...model.stateDict().values()].flatMap((tensor) => [...numbers(tensor)]));
}

test("ends with the reference's weights and average", async () => {
  using model = await start();
  using average = new ModelAverage<Encoder>(model, (await start()), options.decay);
  using optimizer = new AdamW(parameterGroups(model, options), { lr: options.lr });
  expect([...model.stateDict().keys()]).toEqual(trajectory.keys);
  for (const [step, { labels, mixing, lr, loss, norm }] of trajectory.steps.entries()) {
    optimizer.setLearningRate(lr);
    torch.scope(() => {
      const { data, shape } = arrays.get(`images_${step}`)!;
      const { share, cut, row, column } = mixing;
      const mix = cut ? cutMixing(share, row, column, [16, 16]) : { lambda: share, box: null };
      const images = mixImages(torch.tensor(data, shape).to("float64"), mix);
      const target = torch.tensor(labels, undefined, { dtype: "int64" });
      const targets = softTargets(target, { numClasses: classes, smoothing: options.smoothing, lambda: mix.lambda });
      const found = softTargetCrossEntropy(model.forward(images), targets);
      expect(Math.abs(found.item() / loss - 1)).toBeLessThan(1e-9);
      found.backward();
      const length = checkGradients(optimizer.parameters()).norm;
      expect(Math.abs(length / norm - 1)).toBeLessThan(1e-9);
      clipGradients(optimizer.parameters(), length, options.clip);
      optimizer.step();
      optimizer.zeroGrad();
      average.update();
    });
  }
  expect(maxAbsolute(flat(model), arrays.get("final")!.data)).toBeLessThan(1e-9);
  expect(maxAbsolute(flat(average.network), arrays.get("average")!.data)).toBeLessThan(1e-9);
});

test("groups are the reference's", async () => {
  using model = await start();
  const names = new Map(model.namedParameters().map(([name, tensor]) => [tensor, name]));
  const found = parameterGroups(model, options).map(({ params, weightDecay, lrScale }) => {
    return { lrScale, weightDecay, names: params.map((each) => names.get(each)) };
  });
  expect(found.map((group) => ({ ...group, lrScale: group.lrScale?.toFixed(12) }))).toEqual(
    trajectory.groups.map((group) => ({ ...group, lrScale: group.lrScale.toFixed(12) })),
  );
  // Without layer decay: what is not decayed first, and no share of the rate in saved states.
  const plain = parameterGroups(model, { weightDecay: 0.05 });
  expect(plain.map(({ params, ...group }) => [group, params.length])).toEqual([
    [{ weightDecay: 0 }, trajectory.groups.filter(({ weightDecay }) => weightDecay === 0).flatMap((each) => each.names).length],
    [{ weightDecay: 0.05 }, trajectory.groups.filter(({ weightDecay }) => weightDecay > 0).flatMap((each) => each.names).length],
  ]);
  expect(parameterGroups(model, { weightDecay: 0 }).map(({ params }) => params.length)).toEqual([trajectory.keys.length]);
});

test("a ResNet's stages are layers; its running statistics are averaged, its counts copied", () => {
  const build = (): ResNet => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 2, numClasses: 3 });
  using model = build();
  const scales = new Map(parameterGroups(model, { weightDecay: 0.1, layerDecay: 0.5 }).flatMap(({ params, lrScale, weightDecay }) => {
    return params.map((each) => [each, [lrScale, weightDecay]] as const);
  }));
  const of = (name: string): unknown => scales.get(model.stateDict().get(name)!);
  expect([of("conv1.weight"), of("bn1.weight"), of("layer1.0.conv1.weight"), of("layer4.0.bn1.bias"), of("fc.weight"), of("fc.bias")]).toEqual([
    [1 / 32, 0.1], [1 / 32, 0], [1 / 16, 0.1], [1 / 2, 0], [1, 0.1], [1, 0],
  ]);
  using average = new ModelAverage<Encoder>(model, build(), 0.75);
  torch.scope(() => torch.noGrad(() => {
    expect(torch.equal(average.network.stateDict().get("conv1.weight")!, model.conv1.weight)).toBe(true);
    model.forward(torch.randn([2, 3, 32, 32]));
    average.update();
    const [mean, count] = ["bn1.running_mean", "bn1.num_batches_tracked"].map((name) => average.network.stateDict().get(name)!);
    expect(maxAbsolute(numbers(mean!), numbers(model.stateDict().get("bn1.running_mean")!.mul(0.25)))).toBeLessThan(1e-7); // from 0
    expect(Number(count!.item())).toBe(1);
  }));
});

test("the learning rate is timm's", () => {
  const schedule = { lr: 1e-3, epochs: 20, warmupEpochs: 5, warmupLr: 1e-6, minLr: 1e-5 };
  parts.rates.forEach((rate, epoch) => expect(Math.abs(fineTuningRateAt(epoch, schedule) / rate - 1)).toBeLessThan(1e-12));
  expect(fineTuningRateAt(2.5, schedule)).toBeCloseTo((1e-6 + 1e-3) / 2, 12);
});

test("gradients are clipped as PyTorch clips, and left alone below the limit or where they overflowed", () => {
  torch.scope(() => {
    const param = torch.zeros([2]).requiresGrad_();
    for (const [gradient, expected] of [[[3, 4], [3 / (5 + 1e-6), 4 / (5 + 1e-6)]], [[0.3, 0.4], [0.3, 0.4]], [[Infinity, 1], [Infinity, 1]]]) {
      param.grad = torch.tensor(gradient!);
      clipGradients([param], checkGradients([param]).norm, 1);
      (param.grad.toArray() as number[]).forEach((value, i) => expect(value).toBeCloseTo(expected![i]!, 6));
    }
    param.grad = null;
  });
});
