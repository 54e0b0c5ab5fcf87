import { describe, expect, test } from "@jest/globals";
import { createMoCo, type MoCo } from "../../../lib/moco/index.js";
import { VisionTransformer } from "../../../lib/models/index.js";
import { AdamW } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { StepGraph } from "../../../lib/train/graphs/stepGraph.js";
import { requireRecordable, stepRecorder, type Recordable, type StepRecorder } from "../../../lib/train/graphs/stepRecorder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { stateBytes } from "../tinyRun.js";
import { StubRecorder } from "./stubRecorder.js";

expectNoTensorsLeft();

function buildMoCo(): MoCo {
  torch.manualSeed(3);
  const encoder = (numClasses: number): VisionTransformer =>
    new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses, stopGradConv1: true });
  return createMoCo({ encoder, dim: 8, mlpDim: 16, temperature: 0.2 }).train();
}

/** Forward and backward pass of a step. */
const work = (moco: MoCo) => ([x1, x2]: readonly Tensor[]): Tensor[] => {
  const loss = moco.loss([x1!, x2!]);
  loss.backward();
  return [loss];
};

/** Trains with a recorder, or without, on views of the given batch sizes. */
function train(sizes: readonly number[], arrange: (moco: MoCo, recorder: StubRecorder) => StepRecorder | null) {
  const moco = buildMoCo();
  const recorder = new StubRecorder();
  recorder.network = moco;
  const fallbacks: string[] = [];
  const losses: number[] = [];
  try {
    using optimizer = new AdamW(moco.parameters(), { lr: 1e-2, weightDecay: 0.1 });
    using graph = new StepGraph(moco.parameters(), { recorder: arrange(moco, recorder), onFallback: (reason) => fallbacks.push(reason) });
    sizes.forEach((size, step) => torch.scope(() => {
      torch.manualSeed(step);
      const views = [torch.randn([size, 3, 16, 16]), torch.randn([size, 3, 16, 16])];
      moco.updateMomentumEncoder(0.9 + step / 1000);
      const [loss] = graph.run(views, work(moco)) as [Tensor];
      losses.push(loss.item());
      optimizer.setLearningRate(1e-2 / (1 + step));
      optimizer.step();
      optimizer.zeroGrad();
    }));
    return { weights: stateBytes(moco), losses, fallbacks, events: recorder.events };
  } finally {
    moco.dispose();
  }
}

const plain = (sizes: readonly number[]): ReturnType<typeof train> => train(sizes, () => null);
const recorded = (sizes: readonly number[]): ReturnType<typeof train> => train(sizes, (_, recorder) => recorder);
const times = <T>(count: number, what: T): T[] => Array.from({ length: count }, () => what);

test("the fourth step is recorded, and each from there on is a launch with the numbers of a step as it is", () => {
  const sizes = times(12, 4);
  const [graph, eager] = [recorded(sizes), plain(sizes)];
  expect(graph.events).toEqual([...times(3, "as it is"), "record", ...times(9, "replay"), "dispose"]);
  expect(new Set(eager.losses).size).toBe(12);
  expect(graph.losses).toEqual(eager.losses);
  expect(graph.weights).toEqual(eager.weights);
});

test("other shapes run as they are, and are recorded when they stay", () => {
  const sizes = [...times(5, 4), 6, ...times(5, 4)];
  const [graph, eager] = [recorded(sizes), plain(sizes)];
  expect(graph.events).toEqual([
    ...times(3, "as it is"), "record", "replay", "replay", "dispose", "as it is",
    ...times(3, "as it is"), "record", "replay", "replay", "dispose",
  ]);
  expect(graph.losses).toEqual(eager.losses);
  expect(graph.weights).toEqual(eager.weights);
});

test("what cannot be recorded runs as it is from there on, and the reason is told once", () => {
  const sizes = times(6, 4);
  const graph = train(sizes, (_, recorder) => {
    recorder.failure = new Error("operation not permitted\nwhen stream is capturing");
    return recorder;
  });
  expect(graph.events).toEqual([...times(3, "as it is"), "record"]);
  expect(graph.fallbacks).toEqual(["operation not permitted when stream is capturing"]);
  const eager = plain(sizes);
  expect(graph.losses).toEqual(eager.losses);
  expect(graph.weights).toEqual(eager.weights);
});

test("a network that became another is recorded anew", () => {
  const moco = buildMoCo();
  const recorder = new StubRecorder();
  recorder.network = moco;
  const graph = new StepGraph(moco.parameters(), { recorder });
  const step = (): void => torch.scope(() => {
    graph.run([torch.randn([4, 3, 16, 16]), torch.randn([4, 3, 16, 16])], work(moco));
    for (const parameter of moco.parameters()) parameter.grad = null;
  });
  for (let i = 0; i < 4; i++) step();
  expect(graph.isRecorded).toBe(true);
  graph.invalidate();
  expect(graph.isRecorded).toBe(false);
  for (let i = 0; i < 4; i++) step();
  const once = [...times(3, "as it is"), "record", "replay"];
  expect(recorder.events).toEqual([...once, "dispose", ...once]);
  graph.dispose();
  moco.dispose();
});

describe("which trainings are recorded", () => {
  const usual: Recordable = { cudaGraph: "on", device: "cuda:0", worldSize: 1, microBatch: null };

  test("asked for, on one GPU", () => {
    expect(() => requireRecordable(usual)).not.toThrow();
    expect(stepRecorder(usual)).not.toBeNull();
    expect(stepRecorder({ ...usual, cudaGraph: "auto" })).not.toBeNull();
    expect(stepRecorder({ ...usual, cudaGraph: "off" })).toBeNull();
  });

  test.each<[Partial<Recordable>, RegExp]>([
    [{ device: "cpu" }, /cudaGraph is "on", but the device is cpu/],
    [{ worldSize: 2 }, /2 processes train together/],
    [{ microBatch: 32 }, /microBatch/],
  ])("not with %j, which is an error only where it must be recorded", (changes, message) => {
    expect(() => requireRecordable({ ...usual, ...changes })).toThrow(message);
    expect(() => requireRecordable({ ...usual, ...changes, cudaGraph: "auto" })).not.toThrow();
    expect(stepRecorder({ ...usual, ...changes, cudaGraph: "auto" })).toBeNull();
  });
});
