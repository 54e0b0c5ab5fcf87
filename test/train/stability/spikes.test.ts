/** What a spike is, and what becomes of a step that has one: planted in a training, stopped anywhere and resumed. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import { readRunLog, type StepEntry } from "../../../lib/report/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { OptionError } from "../../../lib/train/options.js";
import type { PretrainOptions } from "../../../lib/train/pretrainOptions.js";
import { SpikeDetector } from "../../../lib/train/stability/spikeDetector.js";
import { MOST_ROLLBACKS, MOST_SKIPS, SpikeLimitError, SpikePolicy } from "../../../lib/train/stability/spikePolicy.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { runTiny, stateBytes } from "../tinyRun.js";
import { SpikingTransformer, spikingOptions } from "./plantedTraining.js";

expectNoTensorsLeft();

let root: string;
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
beforeAll(() => void (root = mkdtempSync(join(tmpdir(), "moco-spikes-"))));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const last = "checkpoint_0011.pth.tar";
const bytes = (out: string): Buffer => readFileSync(join(out, last));
const acted = (steps: readonly StepEntry[]): number[] => steps.filter(({ action }) => action !== undefined).map(({ step }) => step);

describe("a gradient is a spike", () => {
  const layers = (stem: number | null): { stem: number | null; blocks: number[]; projector: number; predictor: number } =>
    ({ stem, blocks: [1, 1], projector: 1, predictor: 1 });
  const after = (steps: number, ratio = 10): SpikeDetector => {
    const detector = new SpikeDetector(ratio);
    for (let i = 0; i < steps; i++) expect(detector.look(2 + (i % 3), layers(0.5))).toEqual([]);
    return detector;
  };

  test("above so many times its running median, the lowest layer first", () => {
    expect(after(20).look(30, layers(0.5))).toEqual([]);
    expect(after(20).look(31, layers(0.5))).toEqual([{ layer: "all", norm: 31, usual: 3, ratio: 31 / 3 }]);
    expect(after(20).look(30.5, layers(30)).map(({ layer, ratio }) => [layer, ratio])).toEqual([["stem", 60], ["all", 30.5 / 3]]);
    expect(after(20, 4).look(13, layers(0.5))).toHaveLength(1);
  });

  test("not in the first twenty steps, below the floors or where it is not finite", () => {
    expect(after(19).look(1000, layers(900))).toEqual([]);
    expect(after(20).look(200, layers(9.9)).map(({ layer }) => layer)).toEqual(["all"]); // the stem has less than a twentieth
    const tiny = new SpikeDetector(10);
    for (let i = 0; i < 20; i++) tiny.look(1e-9, layers(null));
    expect(tiny.look(9e-7, layers(null))).toEqual([]);
    expect(tiny.look(1.1e-6, layers(null))).toHaveLength(1);
    for (const norm of [Infinity, NaN]) expect(after(20).look(norm, layers(norm))).toEqual([]);
  });

  test("until its level is usual", () => {
    const detector = after(100);
    const spikes = Array.from({ length: 80 }, () => detector.look(100, layers(0.5)).length);
    expect(spikes.reduce((sum, count) => sum + count, 0)).toBe(50);
    expect(spikes.slice(51)).toEqual(Array.from({ length: 29 }, () => 0));
  });

  test("by the same measure after a resume", () => {
    const [one, two] = [after(37), new SpikeDetector(10)];
    two.restore(JSON.parse(JSON.stringify(one)) as Parameters<SpikeDetector["restore"]>[0]);
    for (const norm of [1 / 3, 40, 31, 2]) expect(two.look(norm, layers(norm))).toEqual(one.look(norm, layers(norm)));
    expect(JSON.stringify(two)).toBe(JSON.stringify(one));
  });
});

describe("it is enough", () => {
  const spikes = [{ layer: "all" as const, norm: 100, usual: 1, ratio: 100 }];

  test("after ten of a hundred steps were skipped", () => {
    const policy = new SpikePolicy("skip");
    for (let i = 0; i < MOST_SKIPS; i++) expect(policy.decide(spikes, 50 + 2 * i, null)).toBe("skipped");
    expect(() => policy.decide(spikes, 149, null)).toThrow(SpikeLimitError);
    expect(() => policy.decide(spikes, 149, null)).toThrow(/Step 149: .*10 of the last 100 steps.*--lr.*--on-spike warn/s);
    expect(new SpikePolicy("skip").decide([], 0, null)).toBeUndefined();
    const later = new SpikePolicy("skip");
    for (let i = 0; i < 40; i++) expect(later.decide(spikes, 10 * i, null)).toBe("skipped");
  });

  test("after three times back to the same state", () => {
    const policy = new SpikePolicy("rollback");
    for (let i = 0; i < MOST_ROLLBACKS; i++) expect(policy.decide(spikes, 130 + i, 100)).toBe("rolled-back");
    const resumed = new SpikePolicy("rollback");
    resumed.restore(JSON.parse(JSON.stringify(policy)) as Parameters<SpikePolicy["restore"]>[0]);
    for (const each of [policy, resumed]) expect(() => each.decide(spikes, 140, 100)).toThrow(/gone back to step 100 3 times/);
    expect(new SpikePolicy("rollback").decide(spikes, 240, 200)).toBe("rolled-back");
  });
});

describe.each<["skip" | "rollback", Partial<PretrainOptions>]>([["skip", {}], ["rollback", { rollbackSteps: 7 }]])("--on-spike %s", (onSpike, more) => {
  const options = { ...spikingOptions, ...more, onSpike };
  let whole: string;
  let steps: StepEntry[];
  const warnings: string[] = [];
  beforeAll(async () => {
    whole = folder();
    ({ steps } = await runTiny({ ...options, out: whole }, { onWarning: (message) => void warnings.push(message) }));
  });

  test("answers each planted spike after the first twenty steps", () => {
    const stems = steps.map(({ signals }) => signals!.gradients!.stem!);
    const usual = [...stems].sort((a, b) => a - b)[stems.length >> 1]!;
    const planted = steps.filter((_, step) => stems[step]! > 20 * usual).map(({ step }) => step);
    expect(planted.length).toBeGreaterThan(5);
    expect(acted(steps)).toEqual(expect.arrayContaining(planted.filter((step) => step >= 20)));
    // So small a network has spikes of its own now and then, which depend on roundings.
    for (const step of acted(steps)) expect(stems[step]).toBeGreaterThan(10 * usual);
    expect(acted(steps).length).toBeGreaterThan(2);
    const words = onSpike === "skip" ? /^step \d+ is skipped/ : /^after step \d+ the run goes on from its state before step (21|28|35|14)/;
    expect(warnings.filter((message) => words.test(message))).toHaveLength(acted(steps).length);
    const { warnings: logged } = readRunLog(join(whole, "log.jsonl"));
    expect(logged.filter(({ what }) => what === (onSpike === "skip" ? "skipped" : "rolled-back")).map(({ step }) => step)).toEqual(acted(steps));
    expect(logged.some(({ what, message }) => what === "stem-spike" && message.includes("--stop-grad-conv1"))).toBe(true);
  });

  test.each([[[20, 1, 1]], [[23, 6]]])("stopped after %j steps and resumed, it ends with the same bytes", async (stops) => {
    const out = folder();
    let resume: string | undefined;
    for (const stopAfter of stops) {
      await runTiny({ ...options, out, resume, stopAfter });
      resume = out;
    }
    await runTiny({ ...options, out, resume, workers: 2 });
    expect(bytes(out).equals(bytes(whole))).toBe(true);
    expect(acted(readRunLog(join(out, "log.jsonl")).steps)).toEqual(acted(steps));
  });

  test("leaves what is trained as it was", async () => {
    const first = acted(steps)[0]!;
    const at = async (stopAfter: number): Promise<Map<string, Uint8Array>> => {
      let state = new Map<string, Uint8Array>();
      await runTiny({ ...options, stopAfter }, {}, (moco) => (state = stateBytes(moco)));
      return state;
    };
    // Back to the state before the step, or before the snapshot's.
    const from = onSpike === "skip" ? first : first - (first % 7);
    expect(await at(first + 1)).toEqual(await at(from));
  });
});

test("a step that is skipped has no effect on optimiser and later steps but that of its place", async () => {
  const [out, other] = [folder(), folder()];
  const { steps } = await runTiny({ ...spikingOptions, onSpike: "skip", out });
  const first = acted(steps)[0]!;
  await runTiny({ ...spikingOptions, onSpike: "skip", out: other, stopAfter: first });
  await runTiny({ ...spikingOptions, onSpike: "skip", resume: other, out: other, stopAfter: 1 });
  const name = (steps: number): string => (steps % 3 === 0 ? `checkpoint_${String(steps / 3 - 1).padStart(4, "0")}.pth.tar`
    : `checkpoint_${String(Math.floor(steps / 3)).padStart(4, "0")}_step_${String(steps % 3).padStart(6, "0")}.pth.tar`);
  const value = await readCheckpoint<{ optimizer: { state: Map<number, { step: Tensor }> } }>(join(other, name(first + 1)));
  expect([...new Set([...value.optimizer.state.values()].map((state) => state.step.item()))]).toEqual([first]);
  disposeTensors(value);
});

test("too many spikes stop the run, with the weights as before the last one", async () => {
  // Without it, every step is a spike once there is something usual.
  const spiky = { ...spikingOptions, spikeRatio: 1, onSpike: "skip" as const, epochs: 40 };
  const out = folder();
  const failure = await runTiny({ ...spiky, out }).then(() => null, (error: unknown) => error as SpikeLimitError);
  expect(failure).toBeInstanceOf(SpikeLimitError);
  expect(failure!.message).toContain("which is the limit");
  const { end, steps } = readRunLog(join(out, "log.jsonl"));
  expect(end).toMatchObject({ reason: "failed", message: failure!.message });
  expect(steps.filter(({ action }) => action === "skipped")).toHaveLength(MOST_SKIPS);
});

test("warn makes the steps", async () => {
  const warnings: string[] = [];
  const { steps } = await runTiny({ ...spikingOptions, encoder: (numClasses) => new SpikingTransformer(numClasses, 1000, true) }, { onWarning: (each) => void warnings.push(each) });
  expect(acted(steps)).toEqual([]);
  expect(steps.every(({ signals }) => signals!.gradients!.stem === null)).toBe(true);
});

test.each<[Partial<PretrainOptions>, RegExp]>([
  [{ onSpike: "skip", watch: false }, /onSpike is "skip", and watch is false/],
  [{ onSpike: "stop" as never }, /onSpike is "stop"; give warn or skip or rollback/],
  [{ spikeRatio: 0.5 }, /spikeRatio is 0.5; give a number of at least 1/],
  [{ rollbackSteps: 0 }, /rollbackSteps/],
  [{ clipGrad: 0 }, /clipGrad is 0; give a number above 0/],
])("%j is refused", async (options, message) => {
  await expect(runTiny(options)).rejects.toThrow(OptionError);
  await expect(runTiny(options)).rejects.toThrow(message);
});
