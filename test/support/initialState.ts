/** What a freshly made network's state must be, from the reference's descriptions in fixtures/init. */
import { expect } from "@jest/globals";
import type { AnyModule } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";

export interface Entry {
  key: string;
  shape: number[];
  dtype: string;
  kind: "parameter" | "buffer";
  requires_grad: boolean;
  mean: number;
  std: number;
  min: number;
  max: number;
}

export interface Description {
  parameters: number;
  trainable: number;
  parameter_order: string[];
  state_dict: Entry[];
}

/** Statistics that must agree with one draw of the reference: population figures of n values lie within 6 standard errors. */
export function expectSameLaw(model: AnyModule, entries: readonly Entry[]): void {
  const state = model.stateDict();
  for (const { key, mean, std, min, max } of entries) {
    if (key === "pos_embed") continue; // compared exactly elsewhere
    const tensor = state.get(key);
    if (!tensor) throw new Error(`${key} is missing`);
    const n = tensor.numel();
    const [foundMean, foundStd, foundBound] = torch.scope(() => {
      const values = tensor.detach().to("float64");
      return [values.mean().item(), values.std(false).item(), values.abs().max().item()];
    }) as [number, number, number];
    if (std === 0) {
      expect({ key, mean: foundMean, std: foundStd }).toEqual({ key, mean, std });
      continue;
    }
    // Both sides are one draw each. Small tensors have laws whose sample std scatters as 1/sqrt(2n) or less, within this bound.
    const [meanLimit, stdLimit] = [6 * std * Math.sqrt(2 / n), 6 / Math.sqrt(n) + 1e-7];
    const agrees = { key, mean: Math.abs(foundMean - mean) <= meanLimit, std: Math.abs(foundStd / std - 1) <= stdLimit };
    expect(agrees).toEqual({ key, mean: true, std: true });
    // A uniform law's bound is √3 standard deviations; a large draw comes close to it and never passes it.
    const bound = Math.max(-min, max);
    if (n > 10_000 && bound < 1.75 * std) {
      expect({ key, near: foundBound > 0.99 * bound && foundBound < 1.01 * bound }).toEqual({ key, near: true });
    }
  }
}

export function describeState(model: AnyModule): Omit<Entry, "mean" | "std" | "min" | "max">[] {
  const parameters = new Set(model.namedParameters().map(([key]) => key));
  return [...model.stateDict()].map(([key, tensor]) => ({
    key, shape: tensor.shape, dtype: tensor.dtype, kind: parameters.has(key) ? "parameter" : "buffer", requires_grad: tensor.requiresGrad,
  }));
}

export function structure(entries: readonly Entry[]): Omit<Entry, "mean" | "std" | "min" | "max">[] {
  return entries.map(({ key, shape, dtype, kind, requires_grad }) => ({ key, shape, dtype, kind, requires_grad }));
}
