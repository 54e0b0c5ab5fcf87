import { expect, test } from "@jest/globals";
import { createMoCo, type MoCo } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { AdamW } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { RecordedGraph, Tensor } from "../../lib/torch/index.js";
import { StepGraph, type StepRecorder } from "../../lib/train/runs/stepGraph.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { stateBytes } from "./tinyRun.js";

expectNoTensorsLeft();

/**
 * A recorder for the CPU that keeps to a CUDA graph's rules: recording leaves the network's buffers as they were, and a replay does the work
 * on the inputs' memory and writes into the memory of what recording gave.
 */
class StubRecorder implements StepRecorder {
  readonly events: string[] = [];
  /** Thrown while recording. */
  failure: Error | null = null;

  constructor(private readonly network: MoCo) {}

  prepare<T>(fn: () => T): T {
    this.events.push("as it is");
    return fn();
  }

  record(fn: () => readonly Tensor[]): RecordedGraph {
    this.events.push("record");
    const { events, failure } = this;
    const buffers = this.network.namedBuffers().map(([, buffer]) => buffer);
    const outputs = torch.scope(() => {
      const before = buffers.map((buffer) => buffer.clone());
      const made = fn().map((each) => torch.keep(each));
      torch.noGrad(() => buffers.forEach((buffer, i) => buffer.copy_(before[i]!)));
      made.forEach((each) => torch.noGrad(() => each.fill_(NaN))); // nothing has run yet
      if (failure) made.forEach((each) => each.dispose());
      return made;
    });
    if (failure) throw failure;
    const dispose = (): void => {
      events.push("dispose");
      outputs.forEach((each) => each.dispose());
    };
    const replay = (): void => {
      events.push("replay");
      torch.scope(() => {
        const made = fn();
        torch.noGrad(() => outputs.forEach((output, i) => output.copy_(made[i]!)));
      });
    };
    return { outputs, replay, dispose, [Symbol.dispose]: dispose };
  }
}

function buildMoCo(): MoCo {
  torch.manualSeed(3);
  const encoder = (numClasses: number): VisionTransformer =>
    new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses, stopGradConv1: true });
  return createMoCo({ encoder, dim: 8, mlpDim: 16, temperature: 0.2 }).train();
}

type Pair = [x1: Tensor, x2: Tensor];

/** Trains with a recorder, or without, on views of the given batch sizes. */
function train(sizes: readonly number[], arrange: (moco: MoCo, recorder: StubRecorder) => StepRecorder | null) {
  const moco = buildMoCo();
  const recorder = new StubRecorder(moco);
  const fallbacks: string[] = [];
  const losses: number[] = [];
  try {
    using optimizer = new AdamW(moco.parameters(), { lr: 1e-2, weightDecay: 0.1 });
    using graph = new StepGraph<Pair>(moco.parameters(), { recorder: arrange(moco, recorder), onFallback: (reason) => fallbacks.push(reason) });
    sizes.forEach((size, step) => torch.scope(() => {
      torch.manualSeed(step);
      const views: Pair = [torch.randn([size, 3, 16, 16]), torch.randn([size, 3, 16, 16])];
      moco.updateMomentumEncoder(0.9 + step / 1000);
      const loss = graph.run(views, ([x1, x2]) => {
        const output = moco.forward(x1, x2, 1);
        output.backward();
        return output.detach();
      });
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
  const recorder = new StubRecorder(moco);
  const graph = new StepGraph<Pair>(moco.parameters(), { recorder });
  const step = (): void => torch.scope(() => {
    graph.run([torch.randn([4, 3, 16, 16]), torch.randn([4, 3, 16, 16])], ([x1, x2]) => {
      const output = moco.forward(x1, x2, 1);
      output.backward();
      return output.detach();
    });
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
