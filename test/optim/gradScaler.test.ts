import { describe, expect, test } from "@jest/globals";
import { PythonFloat } from "../../lib/checkpoint/index.js";
import { checkGradients, GradScaler, OptimizerStateError, SGD } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

function parameter(gradient: number[] | null): Tensor {
  const param = torch.ones([2], {}).requiresGrad_();
  if (gradient) setGradient(param, gradient);
  return param;
}

function setGradient(param: Tensor, gradient: number[]): void {
  torch.scope(() => {
    param.grad = torch.tensor(gradient);
  });
}

describe("GradScaler", () => {
  test("steps with unscaled gradients and doubles the scale after the interval", () => {
    const param = parameter([8, 16]);
    const optimizer = new SGD([param], { lr: 0.25 });
    const scaler = new GradScaler({ enabled: true, initScale: 8, growthInterval: 2 });
    torch.scope(() => expect(scaler.scale(torch.tensor(3)).item()).toBe(24));
    expect(scaler.step(optimizer)).toBe(true);
    scaler.update();
    expect(param.toArray()).toEqual([0.75, 0.5]);
    expect(scaler.stateDict()).toEqual({
      scale: new PythonFloat(8), growth_factor: new PythonFloat(2), backoff_factor: 0.5, growth_interval: 2, _growth_tracker: 1,
    });
    setGradient(param, [8, 8]);
    scaler.unscale_(optimizer);
    scaler.unscale_(optimizer); // a second call, or the one in step, changes nothing
    expect(param.grad!.toArray()).toEqual([1, 1]);
    scaler.step(optimizer);
    scaler.update();
    expect(scaler.getScale()).toBe(16);
    [param, scaler].forEach((each) => each.dispose());
  });

  test("skips a step with a gradient that is not finite and halves the scale", () => {
    const param = parameter([1, Infinity]);
    const optimizer = new SGD([param], { lr: 0.25 });
    const scaler = new GradScaler({ enabled: true });
    expect(scaler.step(optimizer)).toBe(false);
    scaler.update();
    expect(param.toArray()).toEqual([1, 1]);
    expect(scaler.getScale()).toBe(32768);
    setGradient(param, [32768, 0]);
    expect(scaler.step(optimizer)).toBe(true);
    scaler.update();
    expect(param.toArray()).toEqual([0.75, 1]);
    [param, scaler].forEach((each) => each.dispose());
  });

  test("disabled, as on the CPU, it passes everything through and has an empty state", () => {
    const param = parameter([1, 1]);
    const optimizer = new SGD([param], { lr: 0.5 });
    const scaler = new GradScaler();
    const loss = torch.tensor(3);
    expect(scaler.scale(loss)).toBe(loss);
    expect(scaler.step(optimizer)).toBe(true);
    scaler.update();
    expect(scaler.getScale()).toBe(1);
    expect(scaler.stateDict()).toEqual({});
    scaler.loadStateDict({ scale: 4 });
    expect(scaler.stateDict()).toEqual({});
    [param, loss, scaler].forEach((each) => each.dispose());
  });

  test("loads a saved state and refuses an empty one", () => {
    const scaler = new GradScaler({ enabled: true });
    const state = { scale: new PythonFloat(512), growth_factor: new PythonFloat(3), backoff_factor: 0.25, growth_interval: 100, _growth_tracker: 42 };
    scaler.loadStateDict({ ...state, scale: 512, growth_factor: 3 });
    expect(scaler.stateDict()).toEqual(state);
    expect(() => scaler.loadStateDict({})).toThrow(OptimizerStateError);
    expect(() => scaler.loadStateDict({ ...state, scale: "big" })).toThrow(/"scale" is big/);
    expect(() => scaler.loadStateDict({ ...state, growth_interval: null })).toThrow(/"growth_interval" is null/);
    expect(scaler.stateDict()).toEqual(state);
    scaler.loadStateDict(scaler.stateDict());
    expect(scaler.stateDict()).toEqual(state);
    scaler.dispose();
  });
});

describe("checkGradients", () => {
  test("gives the norm of finite gradients and passes over missing ones", () => {
    const params = [parameter([3, 0]), parameter(null), parameter([0, 4])];
    expect(checkGradients(params)).toEqual({ norm: 5, nonFinite: [] });
    expect(checkGradients([params[1]])).toEqual({ norm: 0, nonFinite: [] });
    params.forEach((param) => param.dispose());
  });

  test("names the parameters with NaN or infinity", () => {
    const params = [parameter([3, 0]), parameter([1, NaN]), parameter(null), parameter([-Infinity, 4])];
    expect(checkGradients(params).nonFinite).toEqual([1, 3]);
    params.forEach((param) => param.dispose());
  });

  test("does not take a norm beyond float32 for a gradient that is not finite", () => {
    const params = [parameter([3e38, 3e38])];
    expect(checkGradients(params)).toEqual({ norm: Infinity, nonFinite: [] });
    params.forEach((param) => param.dispose());
  });
});
