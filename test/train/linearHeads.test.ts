import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { FeatureMatrix } from "../../lib/train/linearProbe/featureMatrix.js";
import { NonFiniteError } from "../../lib/train/runs/finiteGuard.js";
import { HeadRace } from "../../lib/train/linearProbe/headRace.js";
import { LinearHeads, type HeadsStep } from "../../lib/train/linearProbe/linearHeads.js";
import { ResumeError } from "../../lib/train/runs/resumable.js";
import { maxRelative, numbers } from "../support/digest.js";
import { readJson, readNpz } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

interface Trajectory {
  losses: number[];
  acc1: number[];
  evaluations: [number, number, number][];
}
interface Manifest {
  batch: number;
  epochs: number;
  classes: number;
  cases: Record<"plain" | "decayed", { lr: number; momentum: number; weight_decay: number; float32: Trajectory; float64: Trajectory }>;
}
const golden = readJson<Manifest>("lincls/manifest.json");
const arrays = readNpz<Float32Array>("lincls/arrays.npz");
const [rows, dim] = arrays.get("features")!.shape as [number, number];
const labels = Array.from(arrays.get("labels")!.data as unknown as BigInt64Array, Number);
const orders = Array.from({ length: golden.epochs }, (_, epoch) =>
  Array.from((arrays.get("orders")!.data as unknown as BigInt64Array).subarray(epoch * rows, (epoch + 1) * rows), Number));

function headsOf(rates: readonly number[], name: keyof Manifest["cases"] = "plain"): LinearHeads {
  const { momentum, weight_decay: weightDecay } = golden.cases[name];
  const { epochs, classes: numClasses } = golden;
  torch.manualSeed(0);
  const heads = new LinearHeads({ featureDim: dim, numClasses, rates, momentum, weightDecay, epochs, device: "cpu" });
  using weight = torch.tensor(arrays.get("weight")!.data, [numClasses, dim]);
  using bias = torch.zeros([numClasses]);
  for (const { linear } of heads.heads) linear.loadStateDict(new Map([["weight", weight], ["bias", bias]]));
  return heads;
}

const matrix = async (): Promise<FeatureMatrix> => {
  const features = torch.keep(torch.tensor(arrays.get("features")!.data, [rows, dim]));
  return FeatureMatrix.collect(async function* () {
    yield { features, labels };
  }, { rows, dim, device: "cpu", memory: Infinity, file: null, key: null });
};

/** Trains as the golden file says, and calls `after` at the end of each epoch. */
async function train(heads: LinearHeads, after: (epoch: number, table: FeatureMatrix) => void = () => {}): Promise<HeadsStep[]> {
  using table = await matrix();
  const steps: HeadsStep[] = [];
  orders.forEach((order, epoch) => {
    for (let first = 0, step = 0; first < rows; first += golden.batch, step++) {
      const chosen = order.slice(first, first + golden.batch);
      using features = table.rows(chosen, "cpu");
      steps.push(heads.step(features, chosen.map((row) => labels[row]!), { step, epoch, stepInEpoch: step }));
    }
    after(epoch, table);
  });
  return steps;
}

const weightsOf = (heads: LinearHeads, k = 0): Float64Array[] => heads.heads[k]!.linear.parameters().map((each) => numbers(each));

describe.each(["plain", "decayed"] as const)("PyTorch's trajectory, %s", (name) => {
  test("is ours: losses, accuracies, weights and moments", async () => {
    const { lr, float32, float64 } = golden.cases[name];
    const heads = headsOf([lr], name);
    const race = new HeadRace(heads);
    const evaluations: number[][] = [];
    const steps = await train(heads, (epoch, table) => {
      const { acc1, acc5, loss } = race.evaluate(epoch, table);
      evaluations.push([acc1, acc5, loss]);
    });
    // PyTorch's own float32 is up to 3e-6 off its float64 here.
    expect(maxRelative(steps.map(({ loss }) => loss), float64.losses)).toBeLessThan(2e-6);
    expect(steps.map(({ acc1 }) => acc1)).toEqual(float32.acc1);
    evaluations.forEach(([acc1, acc5, loss], epoch) => {
      expect([acc1, acc5]).toEqual(float32.evaluations[epoch]!.slice(0, 2));
      expect(loss).toBeCloseTo(float64.evaluations[epoch]![2], 5);
    });
    const { state } = heads.heads[0]!.optimizer.stateDict();
    const found = [...weightsOf(heads), ...[...state.values()].map((each) => numbers(each.get("momentum_buffer")!))];
    ["weight", "bias", "weight_momentum", "bias_momentum"].forEach((key, i) => {
      expect(maxRelative(found[i]!, arrays.get(`${name}_float64_${key}`)!.data)).toBeLessThan(1e-5);
    });
    heads.release(null);
  });
});

test("many learning rates at once are each alone, to rounding", async () => {
  const rates = [0.01, 0.1, 0.5, 2, 5];
  const together = headsOf(rates);
  const race = new HeadRace(together);
  await train(together, (epoch, table) => void race.evaluate(epoch, table));
  for (const [k, lr] of rates.entries()) {
    const alone = headsOf([lr]);
    const single = new HeadRace(alone);
    await train(alone, (epoch, table) => void single.evaluate(epoch, table));
    weightsOf(alone).forEach((weights, i) => expect(maxRelative(weightsOf(together, k)[i]!, weights)).toBeLessThan(1e-5));
    expect(race.results[k]).toMatchObject({ ...single.results[0]!, loss: expect.closeTo(single.results[0]!.loss!, 4) });
    alone.release(null);
  }
  const best = Math.max(...race.results.map(({ acc1 }) => acc1!));
  expect(race.results[together.heads.indexOf(race.leader)]!.acc1).toBe(best);
  together.release(null);
});

test("one that diverges stays behind, the others go on; all of them, and the run ends before their weights change", async () => {
  const heads = headsOf([0.1, 1e36]);
  const race = new HeadRace(heads);
  await train(heads, (epoch, table) => void race.evaluate(epoch, table));
  expect(race.results[1]).toMatchObject({ diverged: true, acc1: 0, loss: null });
  expect(race.leader).toBe(heads.heads[0]);
  const alone = headsOf([0.1]);
  await train(alone);
  weightsOf(alone).forEach((weights, i) => expect(maxRelative(weightsOf(heads)[i]!, weights)).toBeLessThan(1e-5));
  [heads, alone].forEach((each) => each.release(null));

  const wild = headsOf([1e36]);
  const before = weightsOf(wild);
  const failure = await train(wild).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(NonFiniteError);
  expect((failure as Error).message).toMatch(/^Step 0 .*learning rate \(1\.00e\+36 at this step\) is too high; begin again with a lower --lr/);
  expect(weightsOf(wild)).toEqual(before);
  wild.release(null);
});

test("begins with N(0, 0.01) and no bias, the same for every learning rate", () => {
  torch.manualSeed(3);
  const heads = new LinearHeads({ featureDim: 384, numClasses: 100, rates: [1, 2], momentum: 0.9, weightDecay: 0, epochs: 1, device: "cpu" });
  const [weight, bias] = weightsOf(heads) as [Float64Array, Float64Array];
  const mean = weight.reduce((sum, value) => sum + value, 0) / weight.length;
  const deviation = Math.sqrt(weight.reduce((sum, value) => sum + (value - mean) ** 2, 0) / weight.length);
  // Six standard errors of 38,400 values.
  expect(Math.abs(mean)).toBeLessThan(3e-4);
  expect(Math.abs(deviation - 0.01)).toBeLessThan(2.2e-4);
  expect(bias.every((value) => value === 0)).toBe(true);
  expect(weightsOf(heads, 1)).toEqual([weight, bias]);
  heads.release(null);
});

test("a race goes on from its saved state, and refuses another's", async () => {
  const heads = headsOf([0.1, 2]);
  const race = new HeadRace(heads);
  await train(heads, (epoch, table) => void race.evaluate(epoch, table));
  const saved = race.state();
  const again = headsOf([0.1, 2]);
  const resumed = new HeadRace(again);
  expect(resumed.restore("file", saved)).toEqual([]);
  expect([weightsOf(again), weightsOf(again, 1)]).toEqual([weightsOf(heads), weightsOf(heads, 1)]);
  expect(again.heads.indexOf(resumed.leader)).toBe(heads.heads.indexOf(race.leader));
  expect(resumed.results.map(({ bestAcc1, bestEpoch }) => [bestAcc1, bestEpoch])).toEqual(
    race.results.map(({ bestAcc1, bestEpoch }) => [bestAcc1, bestEpoch]));
  const others = headsOf([0.1, 3]);
  expect(() => new HeadRace(others).restore("file", saved)).toThrow(/file has classifiers of the learning rates 0\.1, 2.*this sweep trains 0\.1, 3/);
  expect(() => new HeadRace(others).restore("file", undefined)).toThrow(ResumeError);
  const single = headsOf([0.1]);
  expect(new HeadRace(single).restore("file", saved)).toEqual([expect.stringMatching(/of a sweep of 2 learning rates/)]);
  expect(new HeadRace(single).restore("file", undefined)).toEqual([]);
  [heads, again, others, single].forEach((each) => each.release(null));
});
