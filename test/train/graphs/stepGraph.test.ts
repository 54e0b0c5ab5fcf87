import { describe, expect, test } from "@jest/globals";
import { createMoCo, StepMemory, type MoCo } from "../../../lib/moco/index.js";
import { ResNet, VisionTransformer } from "../../../lib/models/index.js";
import { AdamW, clipGradients, gradientNorm, GradScaler, LARS, type GradScalerOptions, type Optimizer } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import { StepGraph } from "../../../lib/train/graphs/stepGraph.js";
import { requireRecordable, stepRecorder, type Recordable } from "../../../lib/train/graphs/stepRecorder.js";
import { Snapshot } from "../../../lib/train/stability/snapshot.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { stateBytes } from "../tinyRun.js";
import { StubRecorder } from "./stubRecorder.js";

expectNoTensorsLeft();
torch.setNumThreads(1); // the tensors are tiny

/** What is done with a step after it was computed. */
type Answer = "update" | "clip" | "skip" | "roll back" | "load";

interface Plan {
  steps: number;
  kind?: "ViT and AdamW" | "ResNet and LARS";
  /** Images of a step. */
  size?: (step: number) => number;
  answer?: (step: number) => Answer;
  scaler?: GradScalerOptions;
  /** Drops some of the features. */
  dropout?: boolean;
  /** Learning rate and momentum as numbers of JavaScript, which a recording cannot follow. */
  onHost?: "rate" | "momentum";
  /** Does not belong into a step. */
  reads?: boolean;
}

interface Outcome {
  weights: Map<string, Uint8Array>;
  optimizer: Uint8Array[];
  /** [loss, norm of the gradients] of each step, and the loss scale after it. */
  numbers: number[][];
  events: string[];
  fallbacks: string[];
}

function build({ kind = "ViT and AdamW", onHost }: Plan): { moco: MoCo; optimizer: Optimizer } {
  torch.manualSeed(3);
  const isVit = kind === "ViT and AdamW";
  const encoder = isVit
    ? (numClasses: number) => new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses, stopGradConv1: true })
    : (numClasses: number) => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses, zeroInitResidual: true });
  const moco = createMoCo({ encoder, dim: 8, mlpDim: 16, temperature: 0.2 }).train();
  if (onHost !== "momentum") moco.keepMomentumOnDevice();
  const placement = { ratesOnDevice: onHost !== "rate" };
  const optimizer = isVit
    ? new AdamW(moco.parameters(), { weightDecay: 0.1 }, placement)
    : new LARS(moco.parameters(), { weightDecay: 1e-4 }, placement);
  return { moco, optimizer };
}

/** Trains as `pretrain` does, with learning rate and momentum that change in each step. */
function train(plan: Plan, recorder: StubRecorder | null): Outcome {
  const { steps, size = () => 4, answer = () => "update", dropout = false, reads = false } = plan;
  const { moco, optimizer } = build(plan);
  if (recorder) Object.assign(recorder, { network: moco, optimizer });
  const numbers: number[][] = [];
  const fallbacks: string[] = [];
  using scaler = new GradScaler(plan.scaler);
  using memory = { of: new StepMemory(moco), [Symbol.dispose]() { this.of.dispose(); } };
  const trained = { moco, optimizer, scaler };
  let snapshot = Snapshot.take(trained, 0);
  try {
    using graph = new StepGraph(optimizer, { recorder, onFallback: (part, reason) => fallbacks.push(`${part}: ${reason}`) });
    const stepped = { parameters: () => optimizer.parameters(), step: () => graph.update(() => optimizer.step()) };
    for (let step = 0; step < steps; step++) torch.scope(() => {
      torch.manualSeed(step);
      const views = [0, 1].map(() => torch.randn([size(step), 3, 16, 16]));
      optimizer.setLearningRate(1e-2 / (1 + step / 100));
      moco.setMomentum(0.9 + (0.1 * step) / steps);
      memory.of.remember();
      const [loss, norm] = graph.compute(views, ([x1, x2]) => {
        moco.moveMomentumEncoder();
        const loss = moco.loss([dropout ? torch.dropout(x1!, 0.5, true) : x1!, x2!]);
        scaler.scale(loss).backward();
        scaler.unscaleGradients(stepped);
        if (reads) loss.item();
        return [loss, gradientNorm(moco.parameters())];
      }).map((each) => each.item()) as [number, number];
      scaler.noteUnscaled(stepped);
      const action = answer(step);
      if (action === "skip" || action === "roll back") {
        scaler.discard();
        if (action === "skip") memory.of.restore();
        else snapshot.restore(trained);
      } else {
        if (action === "clip") clipGradients(moco.parameters(), norm, norm / 2);
        scaler.step(stepped);
        scaler.update();
      }
      if (action === "load") optimizer.loadStateDict(optimizer.stateDict());
      if (step === 9) snapshot = snapshot.retake(trained, step);
      optimizer.zeroGrad();
      numbers.push([loss, norm, scaler.getScale()]);
    });
    return { weights: stateBytes(moco), optimizer: optimizer.stateTensors().map((each) => each.bytes()), numbers, fallbacks, events: recorder?.events ?? [] };
  } finally {
    snapshot.dispose();
    optimizer.zeroGrad();
    optimizer.dispose();
    moco.dispose();
  }
}

/** Trains with graphs and without, and expects the same bits. */
function compare(plan: Plan, recorder = new StubRecorder()): { events: string[]; fallbacks: string[]; numbers: number[][] } {
  const [graph, eager] = [train(plan, recorder), train(plan, null)];
  expect(graph.numbers).toEqual(eager.numbers);
  expect(graph.weights).toEqual(eager.weights);
  expect(graph.optimizer).toEqual(eager.optimizer);
  return graph;
}

const times = <T>(count: number, what: T[]): T[] => Array.from({ length: count }, () => what).flat();
/** Steps of which neither part is recorded. */
const asItIs = times(3, ["as it is", "as it is"]);
/** From the fourth step on the gradients, from the seventh on all of a step are launches. */
const beginning = [...asItIs, "record", "replay", "as it is", ...times(2, ["replay", "as it is"]), "replay", "record", "replay"];

test("both parts of a step are recorded, and each step from there on is two launches with the numbers of a step as it is", () => {
  const { events, numbers } = compare({ steps: 12 });
  expect(events).toEqual([...beginning, ...times(5, ["replay", "replay"]), "dispose", "dispose"]);
  expect(new Set(numbers.map(([loss]) => loss)).size).toBe(12);
});

describe("1,002 steps with another rate and momentum in each, some of them clipped, skipped and rolled back", () => {
  const answer = (step: number): Answer => {
    if (step % 101 === 100) return "roll back";
    return step % 7 === 5 ? "skip" : step % 5 === 3 ? "clip" : "update";
  };
  test.each(["ViT and AdamW", "ResNet and LARS"] as const)("%s", (kind) => {
    const { events, fallbacks } = compare({ steps: 1002, kind, answer });
    expect(fallbacks).toEqual([]);
    expect(events.filter((event) => event === "record")).toHaveLength(2);
    expect(events.filter((event) => event === "replay").length).toBeGreaterThan(1800);
  }, 240_000);
});

test("gradients that overflow under the loss scale: the update is not launched, and the scale shrinks, and grows again", () => {
  const { numbers, events } = compare({ steps: 80, scaler: { enabled: true, initScale: 2 ** 127, growthInterval: 6 } });
  const scales = numbers.map(([, , scale]) => scale!);
  expect(scales.some((scale, i) => i > 0 && scale > scales[i - 1]!)).toBe(true);
  expect(numbers.some(([, norm]) => !Number.isFinite(norm))).toBe(true);
  // The optimiser's state comes with its first step, which must not be the recorded one.
  expect(numbers.slice(0, 4).every(([, norm]) => !Number.isFinite(norm))).toBe(true);
  expect(events.filter((event) => event === "record")).toHaveLength(2);
});

test("random numbers go on as if each step were new", () => {
  const { numbers } = compare({ steps: 20, dropout: true });
  const without = train({ steps: 20 }, null);
  expect(numbers).not.toEqual(without.numbers);
});

test("a rollback to the very beginning, where the optimiser had no state, records the update anew", () => {
  const { events } = compare({ steps: 24, answer: (step) => (step === 8 ? "roll back" : "update") });
  expect(events.filter((event) => event === "record")).toHaveLength(3);
});

test("a state that was loaded records the update anew", () => {
  const { events } = compare({ steps: 24, answer: (step) => (step === 8 ? "load" : "update") });
  expect(events.filter((event) => event === "record")).toHaveLength(3);
});

test("other shapes run as they are, and are recorded when they stay", () => {
  const { events } = compare({ steps: 20, size: (step) => (step === 8 ? 6 : 4) });
  expect(events).toEqual([
    ...beginning, "replay", "replay",
    "dispose", "as it is", "dispose", "as it is",
    ...beginning, ...times(4, ["replay", "replay"]), "dispose", "dispose",
  ]);
});

describe("what cannot be recorded runs as it is from there on, and the reason is told", () => {
  const error = new Error("operation not permitted\nwhen stream is capturing");
  const failing = (at: number): StubRecorder => Object.assign(new StubRecorder(), { failure: { at, error } });

  test("the part up to the gradients, and with it the update", () => {
    const { events, fallbacks } = compare({ steps: 8 }, failing(0));
    expect(events).toEqual([...asItIs, "record", ...times(5, ["as it is"])]);
    expect(fallbacks).toEqual(["step: operation not permitted when stream is capturing"]);
  });

  test("the update alone", () => {
    const { events, fallbacks } = compare({ steps: 9 }, failing(1));
    expect(events).toEqual([...beginning.slice(0, -1), "replay", "replay", "dispose"]);
    expect(fallbacks).toEqual(["update: operation not permitted when stream is capturing"]);
  });

  test("a part that reads a value", () => {
    const { fallbacks } = compare({ steps: 6, reads: true });
    expect(fallbacks).toEqual(["step: a value is read while recording"]);
  });
});

test.each(["rate", "momentum"] as const)("a %s of JavaScript would stay what it was", (onHost) => {
  expect(() => train({ steps: 9, onHost }, new StubRecorder())).toThrow(/a graph would go on with call \d+ as it was recorded, _f/);
});

test("a network that became another is recorded anew", () => {
  const { moco, optimizer } = build({ steps: 0 });
  const recorder = Object.assign(new StubRecorder(), { network: moco, optimizer });
  const graph = new StepGraph(optimizer, { recorder });
  const step = (): void => torch.scope(() => {
    graph.compute([torch.randn([4, 3, 16, 16]), torch.randn([4, 3, 16, 16])], ([x1, x2]) => {
      const loss = moco.loss([x1!, x2!]);
      loss.backward();
      return [loss];
    });
    graph.update(() => optimizer.step());
    optimizer.zeroGrad();
  });
  for (let i = 0; i < 7; i++) step();
  expect(graph.recorded).toEqual({ compute: true, update: true });
  graph.invalidate();
  expect(graph.recorded).toEqual({ compute: false, update: false });
  for (let i = 0; i < 7; i++) step();
  expect(recorder.events).toEqual([...beginning, "dispose", "dispose", ...beginning]);
  [graph, optimizer, moco].forEach((each) => each[Symbol.dispose]());
});

describe("which trainings are recorded", () => {
  const usual: Recordable = { cudaGraph: "on", device: "cuda:0", precision: "bf16", worldSize: 1, microBatch: null };

  test("asked for, on one GPU", () => {
    expect(() => requireRecordable(usual)).not.toThrow();
    expect(stepRecorder(usual)).not.toBeNull();
    expect(stepRecorder({ ...usual, cudaGraph: "auto" })).not.toBeNull();
    expect(stepRecorder({ ...usual, cudaGraph: "off" })).toBeNull();
  });

  test.each<[Partial<Recordable>, RegExp]>([
    [{ device: "cpu" }, /cudaGraph is "on", but the device is cpu/],
    [{ precision: "fp64" }, /precision fp64 has its learning rate outside the GPU/],
    [{ worldSize: 2 }, /2 processes train together/],
    [{ microBatch: 32 }, /microBatch/],
  ])("not with %j, which is an error only where it must be recorded", (changes, message) => {
    expect(() => requireRecordable({ ...usual, ...changes })).toThrow(message);
    expect(() => requireRecordable({ ...usual, ...changes, cudaGraph: "auto" })).not.toThrow();
    expect(stepRecorder({ ...usual, ...changes, cudaGraph: "auto" })).toBeNull();
  });
});
