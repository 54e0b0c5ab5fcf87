import type { AnyModule } from "../../nn/index.js";
import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import { isFinite, tensorFigures, type TensorFigures } from "./tensorFigures.js";

/** Where a step first has a value that is not finite. */
export interface TraceFinding {
  pass: "forward" | "backward";
  /** The module by its dotted name; empty for what the network does itself, such as the contrast. */
  module: string;
  kind: string;
  /** In the forward pass: the operator, by its ATen name. */
  operator?: string;
  /** In the backward pass: the parameter whose gradient it is, where it is one's. */
  parameter?: string;
  /** What is not finite: the operator's result, or the gradient. */
  output: TensorFigures;
  /** What went into it: the operator's tensors, or the gradient that came from above. */
  inputs: TensorFigures[];
}

/** Methods of a module that compute something from tensors. */
const COMPUTES = /^(forward|embed)/;
/** Operators whose result is memory as it was found. */
const UNWRITTEN = /^(new_)?empty/;

/** A module's output that the backward pass comes by. */
interface Passed {
  module: string;
  kind: string;
  output: Tensor;
}

/**
 * Runs a forward and a backward pass and finds the first place where a value is not finite: in the forward pass the operator and the module
 * that called it, else, against the direction of computation, the module whose backward made the gradient so.
 *
 * Each operator's result is looked at, and all modules' outputs are kept: many times slower than a step, and larger by the outputs' gradients.
 *
 * @param compute the loss to call `backward` on. Parameters' `grad` stay as they are
 * @returns null where everything is finite
 */
export function traceStep(network: AnyModule, compute: () => Tensor): TraceFinding | null {
  const path: { module: string; kind: string }[] = [];
  const passed: Passed[] = [];
  const unhook = [...network.namedModules()].map(([module, each]) => hook(module, each, path, passed));
  let found: TraceFinding | null = null;
  try {
    return torch.scope(() => {
      const loss = torch.observeOperators((name, args, result) => {
        if (found !== null || UNWRITTEN.test(name)) return;
        const bad = tensorsIn(result).find((tensor) => !isFinite(tensor));
        if (bad === undefined) return;
        const { module, kind } = path.at(-1) ?? { module: "", kind: network.constructor.name };
        found = { pass: "forward", module, kind, operator: name, output: tensorFigures(bad), inputs: tensorsIn(args).map(tensorFigures) };
      }, compute);
      return found ?? lookBack(network, loss, passed);
    });
  } finally {
    for (const undo of unhook) undo();
    for (const { output } of passed) output.dispose();
  }
}

/** Lets a module tell where the computation is, and keep its outputs. */
function hook(module: string, each: AnyModule, path: { module: string; kind: string }[], passed: Passed[]): () => void {
  const kind = each.constructor.name;
  const hooked: Record<string, unknown> = {};
  const target = each as unknown as Record<string, unknown>;
  for (const name of computingMethods(each)) {
    const method = target[name] as (...args: unknown[]) => unknown;
    const own = Object.hasOwn(target, name);
    hooked[name] = own ? method : undefined;
    target[name] = (...args: unknown[]): unknown => {
      path.push({ module, kind });
      try {
        const output = method.apply(each, args);
        // What was changed in place, or passed through, belongs to who made it.
        if (!(output instanceof Tensor) || !output.requiresGrad || args.includes(output)) return output;
        // What follows gets another name of it, so that it may be freed or changed in place there.
        passed.push({ module, kind, output: torch.keep(output) });
        return torch.alias(output);
      } finally {
        path.pop();
      }
    };
  }
  return () => {
    for (const [name, method] of Object.entries(hooked)) {
      if (method === undefined) delete target[name];
      else target[name] = method;
    }
  };
}

function computingMethods(module: AnyModule): string[] {
  const names = new Set<string>(["forward"]);
  for (let level: object = Object.getPrototypeOf(module) as object; level !== Object.prototype; level = Object.getPrototypeOf(level) as object) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(level))) {
      if (COMPUTES.test(name) && typeof value === "function") names.add(name);
    }
  }
  return [...names];
}

/** Goes against the direction of computation, from the loss to the images. */
function lookBack(network: AnyModule, loss: Tensor, passed: readonly Passed[]): TraceFinding | null {
  const parameters = network.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
  const gradients = torch.grad(loss, [...passed.map(({ output }) => output), ...parameters.map(([, tensor]) => tensor)], { allowUnused: true });
  const kinds = new Map([...network.namedModules()].map(([name, module]) => [name, module.constructor.name]));
  const bad = parameters.flatMap(([parameter], i) => {
    const gradient = gradients[passed.length + i];
    return gradient != null && !isFinite(gradient) ? [{ parameter, module: parameter.split(".").slice(0, -1).join("."), gradient }] : [];
  });
  let above: { module: string; kind: string; gradient: Tensor } | null = null;
  for (let i = passed.length - 1; i >= 0; i--) {
    const gradient = gradients[i];
    if (gradient == null) continue;
    const { module, kind } = passed[i]!;
    if (!isFinite(gradient)) {
      const maker = above ?? { module: "", kind: network.constructor.name };
      return { pass: "backward", module: maker.module, kind: maker.kind, output: tensorFigures(gradient), inputs: above === null ? [] : [tensorFigures(above.gradient)] };
    }
    // What came from above is finite, and the gradient of the module's own weights is not.
    const own = bad.find((each) => each.module === module);
    if (own !== undefined) {
      const { parameter } = own;
      return { pass: "backward", module, kind, parameter, output: tensorFigures(own.gradient), inputs: [tensorFigures(gradient)] };
    }
    above = { module, kind, gradient };
  }
  const [first] = bad;
  if (first === undefined) return null;
  const { module, parameter, gradient } = first;
  return { pass: "backward", module, kind: kinds.get(module) ?? network.constructor.name, parameter, output: tensorFigures(gradient), inputs: [] };
}

function tensorsIn(value: unknown): Tensor[] {
  if (value instanceof Tensor) return value.disposed || !value.dtype.includes("float") ? [] : [value];
  return Array.isArray(value) ? value.flatMap(tensorsIn) : [];
}
