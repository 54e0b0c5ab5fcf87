/** Ten steps of an optimiser against the reference, on any device. */
import { expect, test } from "@jest/globals";
import { PythonFloat, readCheckpoint } from "../../lib/checkpoint/index.js";
import { AdamW, LARS, SGD, type Optimizer } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { DType, Tensor } from "../../lib/torch/index.js";
import { maxAbsolute, relativeL2 } from "../support/digest.js";
import { fixturePath, readJson, readNpz, type NpyArray } from "../support/fixtures.js";

interface Manifest {
  config: { steps: number; lrs: number[]; kw: Record<string, number>; frozen?: string[] };
  parameter_order: string[];
}

interface Listing {
  tensors: { path: (string | number)[]; shape: number[]; sum: number; first4: number[] }[];
  scalars: { path: (string | number)[]; value: unknown }[];
}

export const optimizers = { lars: LARS, "lars/wd0": LARS, adamw: AdamW, sgd: SGD, "sgd/wd": SGD };
export type OptimizerFolder = keyof typeof optimizers;

/** A run of the folder's ten steps that can be stopped and inspected. */
class Run {
  readonly manifest: Manifest;
  readonly params: Map<string, Tensor>;
  readonly optimizer: Optimizer<never>;
  readonly #gradients: Map<string, NpyArray>;

  constructor(
    readonly folder: OptimizerFolder,
    readonly dtype: DType,
    readonly device: string,
  ) {
    this.manifest = readJson<Manifest>(`${folder}/manifest.json`);
    this.#gradients = readNpz(`${folder}/grads.npz`);
    const initial = readNpz(`${folder}/params0.npz`);
    const { kw, frozen = [] } = this.manifest.config;
    this.params = new Map(
      this.manifest.parameter_order.map((name) => [name, tensorOf(initial.get(name)!, dtype, device).requiresGrad_(!frozen.includes(name))]),
    );
    const options = Object.fromEntries(Object.entries(kw).map(([key, value]) => [torch.camelCase(key), value]));
    this.optimizer = new optimizers[folder]([...this.params.values()], options) as unknown as Optimizer<never>;
  }

  step(number: number): void {
    this.optimizer.zeroGrad();
    for (const [name, param] of this.params) {
      const gradient = this.#gradients.get(`${name}_${number}`);
      torch.scope(() => {
        if (gradient) param.grad = tensorOf(gradient, this.dtype, this.device);
      });
    }
    this.optimizer.setLearningRate(this.manifest.config.lrs[number]);
    this.optimizer.step();
  }

  dispose(): void {
    this.optimizer.dispose();
    for (const param of this.params.values()) param.dispose();
  }
}

function tensorOf(array: NpyArray, dtype: DType, device: string): Tensor {
  return torch.scope(() => torch.tensor(array.data, array.shape).to({ dtype, device }));
}

/** The tests of an optimiser's fixture, to be called inside `describe`. */
export function testOptimizer(folder: OptimizerFolder, device: string): void {
  // One unit in the last place is 2.2e-16 there; the limits are those of the golden data, which the CPU made. A GPU's fused kernel rounds
  // elsewhere, and AdamW's quotient magnifies that where a gradient is next to nothing.
  test.each([
    { dtype: "float64" as DType, file: "traj_f64.npz", error: maxAbsolute, limit: 1e-12 },
    { dtype: "float32" as DType, file: "traj_f32.npz", error: relativeL2, limit: device === "cpu" ? 1e-6 : 1e-5 },
  ])("follows the reference for ten steps in $dtype", ({ dtype, file, error, limit }) => {
    const golden = readNpz<Float64Array>(`${folder}/${file}`);
    const run = new Run(folder, dtype, device);
    let worst = 0;
    for (let step = 0; step < run.manifest.config.steps; step++) {
      run.step(step);
      for (const [name, param] of run.params) {
        worst = Math.max(worst, error(param.data() as Float64Array, golden.get(`${name}_${step}`)!.data));
      }
    }
    run.dispose();
    expect(worst).toBeLessThan(limit);
  });

  test("ends with the reference's state, in its order and under its names", () => {
    const listing = readJson<Listing>(`${folder}/optimizer_f64.list.json`);
    const run = new Run(folder, "float64", device);
    for (let step = 0; step < run.manifest.config.steps; step++) run.step(step);
    const { state, param_groups: groups } = run.optimizer.stateDict();

    const keys = [...state].flatMap(([index, values]) => [...values.keys()].map((key) => ["state", index, key]));
    expect(keys).toEqual(listing.tensors.map(({ path }) => path));
    for (const { path, shape, first4 } of listing.tensors) {
      const found = state.get(path[1] as number)!.get(path[2] as string)!;
      expect(found.shape).toEqual(shape);
      expect(maxAbsolute(Array.from(found.data() as Float64Array).slice(0, 4), first4)).toBeLessThan(1e-12);
    }
    const expected = listing.scalars.map(({ path, value }) => [path[2], value]);
    const plain = (value: unknown): unknown => (value instanceof PythonFloat ? value.value : Array.isArray(value) ? [...value].map(plain) : value);
    expect(Object.entries(groups[0]).map(([key, value]) => [key, plain(value)])).toEqual(expected);
    run.dispose();
  });

  test("goes on from the reference's saved state as if it had made it", async () => {
    const run = new Run(folder, "float64", device);
    for (let step = 0; step < run.manifest.config.steps; step++) run.step(step);
    const own = run.optimizer.stateDict();
    const resumed = new Run(folder, "float64", device);
    using scope = torch.openScope();
    const saved = await readCheckpoint(fixturePath(`${folder}/optimizer_f64.pth`));
    scope.run(() => resumed.optimizer.loadStateDict(saved));
    const loaded = resumed.optimizer.stateDict();
    expect(loaded.param_groups).toEqual(own.param_groups);
    expect([...loaded.state.keys()]).toEqual([...own.state.keys()]);
    for (const [index, values] of own.state) {
      for (const [key, tensor] of values) {
        const found = loaded.state.get(index)!.get(key)!;
        expect(found.dtype).toBe(tensor.dtype);
        expect(maxAbsolute(found.data() as Float64Array, tensor.data() as Float64Array)).toBeLessThan(1e-12);
      }
    }
    disposeAll(saved);
    run.dispose();
    resumed.dispose();
  });

  test("a run stopped half-way and resumed from its state ends with the same bytes", () => {
    const { steps } = readJson<Manifest>(`${folder}/manifest.json`).config;
    const whole = new Run(folder, "float32", device);
    const first = new Run(folder, "float32", device);
    const second = new Run(folder, "float32", device);
    for (let step = 0; step < steps; step++) whole.step(step);
    for (let step = 0; step < 5; step++) first.step(step);
    torch.noGrad(() => second.params.forEach((param, name) => param.copy_(first.params.get(name)!)));
    second.optimizer.loadStateDict(first.optimizer.stateDict());
    for (let step = 5; step < steps; step++) second.step(step);
    for (const [name, param] of whole.params) expect(second.params.get(name)!.bytes()).toEqual(param.bytes());
    for (const run of [whole, first, second]) run.dispose();
  });
}

/** Frees every tensor in a nest of Maps, arrays and objects. */
function disposeAll(value: unknown): void {
  if (value instanceof torch.Tensor) value.dispose();
  else if (value instanceof Map) for (const each of value.values()) disposeAll(each);
  else if (typeof value === "object" && value !== null) for (const each of Object.values(value)) disposeAll(each);
}
