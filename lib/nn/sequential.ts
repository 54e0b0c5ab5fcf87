import type { Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** Runs modules one after the other; their keys are `"0"`, `"1"`, ... */
export class Sequential<M extends Module = Module> extends Module {
  readonly layers: readonly M[];

  constructor(...layers: M[]) {
    super();
    this.layers = layers.map((layer, i) => this.child(String(i), layer));
  }

  forward(x: Tensor): Tensor {
    let current = x;
    for (const layer of this.layers) {
      const next = layer.forward(current);
      // Freed here, not when this scope ends, so that a deep stack without gradients holds two activations at a time and not all of them.
      if (next !== current && current !== x) current.dispose();
      current = next;
    }
    return current;
  }
}
