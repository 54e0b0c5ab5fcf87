import { beforeEach, describe, expect, test } from "@jest/globals";
import { createMoCo, GradientCache, MoCoError, type MoCo } from "../../lib/moco/index.js";
import { ResNet, VisionTransformer, type VisionTransformerOptions } from "../../lib/models/index.js";
import { GradScaler } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { maxAbsolute, numbers, relativeL2 } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

beforeEach(() => torch.manualSeed(0));

expectNoTensorsLeft();

const images = 11;

function vit(options: VisionTransformerOptions = {}): MoCo {
  const patchSize = options.stem === "conv" ? 16 : 8;
  return createMoCo({
    encoder: (numClasses) => new VisionTransformer({ imageSize: 32, patchSize, embedDim: 48, depth: 2, numHeads: 4, numClasses, ...options }),
    dim: 16,
    mlpDim: 32,
    temperature: 0.2,
  });
}

function resnet(): MoCo {
  return createMoCo({ encoder: (numClasses) => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses }), dim: 16, mlpDim: 32 });
}

/** Two networks with the same weights, of which the momentum encoder's are not the base encoder's. */
function twins(build: () => MoCo, dtype: string): [MoCo, MoCo] {
  const [one, other] = [build(), build()];
  torch.scope(() => torch.noGrad(() => {
    const frozen = one.baseEncoder instanceof VisionTransformer && one.baseEncoder.patchEmbed.frozen;
    for (const [name, parameter] of one.momentumEncoder.namedParameters()) {
      if (!(frozen && name.startsWith("patch_embed")) && name !== "pos_embed") parameter.add_(torch.randn(parameter.shape).mul(0.01));
    }
  }));
  [one, other].forEach((each) => each.to(dtype));
  other.loadStateDict(one.stateDict());
  return [one, other];
}

function viewsOf(count: number, dtype: torch.DType): [Tensor, Tensor] {
  return [torch.randn([count, 3, 32, 32]).to(dtype), torch.randn([count, 3, 32, 32]).to(dtype)];
}

/** Largest relative error of a gradient, and whether the same parameters have one. */
function compareGradients(found: MoCo, expected: MoCo): number {
  const others = new Map(expected.namedParameters());
  let worst = 0;
  for (const [name, { grad }] of found.namedParameters()) {
    const other = others.get(name)!.grad;
    expect([name, grad === null]).toEqual([name, other === null]);
    if (grad === null) continue;
    // Zero in exact arithmetic (a shift before BatchNorm or softmax): what is there is rounding, held against the other gradients' size.
    const [a, b] = [numbers(grad), numbers(other!)];
    const norm = Math.hypot(...b);
    const error = norm < 1e-4 ? maxAbsolute(a, b) : relativeL2(a, b);
    worst = Math.max(worst, error);
  }
  return worst;
}

function compareStates(found: MoCo, expected: MoCo): number {
  const others = expected.stateDict();
  return Math.max(...[...found.stateDict()].map(([key, tensor]) => maxAbsolute(numbers(tensor), numbers(others.get(key)!))));
}

async function inChunks(moco: MoCo, views: readonly [Tensor, Tensor], chunk: number, momentum = 0.9): Promise<number> {
  using step = new GradientCache(moco, { chunk });
  const loss = await step.run(views, momentum);
  const value = loss!.item() as number;
  loss!.dispose();
  return value;
}

describe.each([["float64", 1e-10], ["float32", 1e-5]] as const)("in %s, a batch in chunks", (dtype, tolerance) => {
  test.each([
    ["learned patch projection", () => vit(), 4], ["frozen patch projection", () => vit({ stopGradConv1: true }), 4],
    ["one image at a time", () => vit(), 1], ["one chunk", () => vit(), images], ["a chunk larger than the batch", () => vit(), 64],
  ])("has the whole batch's loss, gradients, statistics and momentum encoder: %s", async (_, build, chunk) => {
    const [whole, parts] = twins(build, dtype);
    using scope = torch.openScope();
    const views = scope.run(() => viewsOf(images, dtype));
    const loss = scope.run(() => {
      const value = whole.forward(...views, 0.9);
      value.backward();
      return value.item() as number;
    });
    expect(Math.abs((await inChunks(parts, views, chunk)) - loss)).toBeLessThan(tolerance);
    expect(scope.run(() => compareGradients(parts, whole))).toBeLessThan(tolerance);
    expect(compareStates(parts, whole)).toBeLessThan(tolerance);
    for (const each of [whole, parts]) {
      each.zeroGrad();
      each.dispose();
    }
  });
});

test("gradients add up, as those of backward do", async () => {
  const [once, twice] = twins(() => vit(), "float64");
  using scope = torch.openScope();
  const views = scope.run(() => viewsOf(6, "float64"));
  await inChunks(once, views, 4, 1);
  await inChunks(twice, views, 4, 1);
  await inChunks(twice, views, 4, 1);
  scope.run(() => once.parameters().forEach(({ grad }) => grad?.mul_(2)));
  expect(scope.run(() => compareGradients(twice, once))).toBeLessThan(1e-12);
  for (const each of [once, twice]) {
    each.zeroGrad();
    each.dispose();
  }
});

test("a scaled loss gives scaled gradients, and autocast computes in bfloat16", async () => {
  const [whole, parts] = twins(() => vit({ stopGradConv1: true }), "float32");
  using scaler = new GradScaler({ enabled: true, initScale: 1024 });
  const compute = <T>(forward: () => T): T => torch.autocast({ device: "cpu", dtype: "bfloat16" }, forward);
  using step = new GradientCache(parts, { chunk: 8, compute, scale: (loss) => scaler.scale(loss) });
  using scope = torch.openScope();
  const views = scope.run(() => viewsOf(32, "float32"));
  const loss = scope.run(() => {
    const value = compute(() => whole.forward(...views, 0.9));
    scaler.scale(value).backward();
    return value.item() as number;
  });
  const found = (await step.run(views, 0.9))!;
  scope.adopt(found);
  expect(found.item()).toBeCloseTo(loss, 2);
  // Sums of bfloat16's products differ between chunks; float32's gradients are much further away.
  const gradient = (moco: MoCo): Float64Array =>
    Float64Array.from(moco.baseEncoder.parameters().flatMap(({ grad }) => (grad === null ? [] : [...numbers(grad)])));
  const scaled = scope.run(() => [parts, whole].map(gradient)) as [Float64Array, Float64Array];
  expect(Math.hypot(...scaled[1])).toBeGreaterThan(100);
  expect(relativeL2(...scaled)).toBeLessThan(0.02);
  for (const each of [whole, parts]) {
    each.zeroGrad();
    each.dispose();
  }
});

test("the second pass draws the random numbers of the first, and they go on as if there had been one", async () => {
  const [chained, parts] = twins(() => vit({ dropPath: 0.5 }), "float64");
  using scope = torch.openScope();
  const views = scope.run(() => viewsOf(8, "float64"));
  // The same draws with one graph for all chunks.
  torch.manualSeed(5);
  chained.updateMomentumEncoder(0.9);
  const after = scope.run(() => {
    const features = [0, 1, 2, 3].map((i) => {
      const pixels = views.map((view) => view.narrow(0, 2 * i, 2));
      return [chained.baseEncoder, chained.momentumEncoder].map((encoder) => encoder.forwardFeatures(torch.cat(pixels)).view([2, 2, 48]));
    });
    const [base, momentum] = [0, 1].map((encoder) => torch.cat(features.map((each) => each[encoder]!), 1).flatten(0, 1)) as [Tensor, Tensor];
    chained.contrast(chained.predict(base), torch.noGrad(() => chained.projectKeys(momentum))).backward();
    return torch.getRngState().data();
  });
  torch.manualSeed(5);
  await inChunks(parts, views, 2);
  expect(scope.run(() => torch.getRngState().data())).toEqual(after);
  expect(scope.run(() => compareGradients(parts, chained))).toBeLessThan(1e-10);
  for (const each of [chained, parts]) {
    each.zeroGrad();
    each.dispose();
  }
});

describe("BatchNorm over images", () => {
  test.each([["ResNet", resnet], ["convolutional stem", () => vit({ stem: "conv" })]])("%s: statistics move once for each view, towards the chunks' mean", async (_, build) => {
    const [whole, parts] = twins(build, "float64");
    using scope = torch.openScope();
    const views = scope.run(() => viewsOf(8, "float64"));
    const first = build === resnet ? "base_encoder.bn1" : "base_encoder.patch_embed.proj.1";
    const before = numbers(whole.stateDict().get(`${first}.running_mean`)!);
    scope.run(() => whole.forward(...views, 0.9));
    using step = new GradientCache(parts, { chunk: 4 });
    expect(step.mixesImages).toBe(true);
    (await step.run(views, 0.9))!.dispose();
    const [expected, found] = [whole.stateDict(), parts.stateDict()];
    // Nothing before the first BatchNorm depends on chunks, so its mean is the whole batch's.
    const means = [expected, found].map((state) => numbers(state.get(`${first}.running_mean`)!)) as [Float64Array, Float64Array];
    expect(maxAbsolute(means[0], before)).toBeGreaterThan(1e-4);
    expect(maxAbsolute(...means)).toBeLessThan(1e-12);
    for (const [key, tensor] of found) if (key.endsWith("num_batches_tracked")) expect([key, Number(tensor.item())]).toEqual([key, 2]);
    for (const each of [whole, parts]) {
      each.zeroGrad();
      each.dispose();
    }
  });

  test("one chunk is the whole batch", async () => {
    const [whole, parts] = twins(resnet, "float64");
    using scope = torch.openScope();
    const views = scope.run(() => viewsOf(6, "float64"));
    scope.run(() => whole.forward(...views, 0.9).backward());
    await inChunks(parts, views, 6);
    expect(scope.run(() => compareGradients(parts, whole))).toBeLessThan(1e-10);
    expect(compareStates(parts, whole)).toBeLessThan(1e-12);
    for (const each of [whole, parts]) {
      each.zeroGrad();
      each.dispose();
    }
  });

  test("a plain ViT has none", () => {
    using moco = vit();
    using step = new GradientCache(moco, { chunk: 4 });
    expect(step.mixesImages).toBe(false);
  });
});

describe("a step that is abandoned", () => {
  // Three chunks of features, the keys, the loss, its backward pass, and three chunks of gradients: nine places.
  test.each(Array.from({ length: 9 }, (_, i) => i))("leaves no trace at place %i", async (place) => {
    const [moco, untouched] = twins(() => vit({ stem: "conv", dropPath: 0.3 }), "float32");
    let asked = 0;
    using step = new GradientCache(moco, { chunk: 3, shouldStop: () => asked++ === place });
    using scope = torch.openScope();
    const views = scope.run(() => viewsOf(8, "float32"));
    const random = scope.run(() => torch.getRngState().bytes());
    const held = torch.memory();
    expect(await step.run(views, 0.5)).toBeNull();
    expect(asked).toBe(place + 1);
    const expected = untouched.stateDict();
    const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(b);
    expect([...moco.stateDict()].filter(([key, tensor]) => !same(tensor.bytes(), expected.get(key)!.bytes()))).toEqual([]);
    expect(same(scope.run(() => torch.getRngState().bytes()), random)).toBe(true);
    expect(moco.parameters().filter(({ grad }) => grad !== null)).toEqual([]);
    expect(torch.memory().bytes - held.bytes).toBeLessThan(20_000); // random states, remembered and read
    for (const each of [moco, untouched]) each.dispose();
  });

  test("is not abandoned where nobody wishes it", async () => {
    using moco = vit();
    let asked = 0;
    using step = new GradientCache(moco, { chunk: 3, shouldStop: () => asked++ < 0 });
    using scope = torch.openScope();
    scope.adopt((await step.run(scope.run(() => viewsOf(8, "float32")), 0.5))!);
    expect(asked).toBe(9);
    moco.zeroGrad();
  });
});

test("the event loop turns between chunks", async () => {
  using moco = vit();
  using step = new GradientCache(moco, { chunk: 2 });
  using scope = torch.openScope();
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  scope.adopt((await step.run(scope.run(() => viewsOf(12, "float32")), 0.5))!);
  clearInterval(timer);
  expect(turns).toBeGreaterThan(3);
  moco.zeroGrad();
});

test("errors name the value and what it must be", async () => {
  using moco = vit();
  for (const chunk of [0, -1, 2.5, NaN]) expect(() => new GradientCache(moco, { chunk })).toThrow(`a chunk of ${chunk} images`);
  expect(() => new GradientCache(moco, { chunk: 0 })).toThrow(MoCoError);
  using step = new GradientCache(moco, { chunk: 2 });
  using scope = torch.openScope();
  const [x1, x2] = scope.run(() => viewsOf(4, "float32"));
  const shorter = scope.run(() => x2.narrow(0, 0, 2));
  await expect(step.run([x1, shorter], 0.9)).rejects.toThrow(/shapes \[4,3,32,32\] and \[2,3,32,32\]/);
  await expect(step.run([x1, x2], 2)).rejects.toThrow("momentum is 2");
});
