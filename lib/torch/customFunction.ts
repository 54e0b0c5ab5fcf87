import { native } from "../native.js";
import { isGradEnabled, noGrad } from "./autograd.js";
import { scope } from "./scope.js";
import { refusePromise } from "./synchronous.js";
import { Tensor } from "./tensor.js";

/** A function of one's own that does not keep to what autograd asks of it: the message names the function, what it gave and the remedy. */
export class CustomFunctionError extends Error {
  override readonly name = "CustomFunctionError";
}

/** The tensors that a function saves for its backward; null where there is none. */
export type SavedTensors = readonly (Tensor | null)[];

/** What a call of a function shares with its backward; forward and backward get the same. PyTorch's `ctx`. */
export interface FunctionContext<Saved extends SavedTensors = readonly Tensor[], State extends object = Record<string, unknown>> {
  /** For each input whether its gradient is asked for; in backward, whether this very pass asks for it. */
  readonly needsInputGrad: readonly boolean[];
  /** For what is no tensor: numbers, shapes, flags. */
  readonly state: State;
  /**
   * Saves tensors for backward: inputs, outputs, or others. Others are constants to a second derivative. They live with the graph, in C++,
   * and die with it; where no gradient is asked for they are not saved. In forward, once.
   */
  saveForBackward(...tensors: Saved): void;
  /** Says that these outputs have no gradient, such as indices or statistics. In forward, once. */
  markNonDifferentiable(...outputs: readonly Tensor[]): void;
  /**
   * What was saved. In backward.
   *
   * @throws {CustomFunctionError} where one of them was changed in place since, and where the graph was used before without `retainGraph`
   */
  readonly saved: Saved;
}

/** For each output of a function its gradient, as backward takes them. */
export type OutputGradients<Output, Gradient> = Output extends Tensor ? [gradient: Gradient] : { [K in keyof Output]: Gradient };

/** For each input of a function its gradient, as backward gives them: null for what is no tensor, and for what needs none. */
export type InputGradients<Inputs extends readonly unknown[]> = { [K in keyof Inputs]: Tensor extends Inputs[K] ? Tensor | null : null };

/** An output's gradient: null, where it did not count and zeros were declined. */
export type FilledGradient<FillIn extends boolean> = FillIn extends false ? Tensor | null : Tensor;

/** A function with a backward of its own; see {@link customFunction}. */
export interface CustomFunction<
  Inputs extends readonly unknown[], Output extends Tensor | readonly Tensor[], Saved extends SavedTensors, State extends object, FillIn extends boolean,
> {
  /** For messages, and for `gradFn`, which is the name with `Backward` behind it. */
  name: string;
  /** Whether backward gets zeros for an output that did not count, or null. Default true. */
  materializeGradients?: FillIn;
  /**
   * Whether backward can be run with operators that autograd does not see, such as kernels: it is refused then where a second derivative is
   * asked for (`createGraph`), which would be wrong. Default false.
   */
  onceDifferentiable?: boolean;
  /** Computes the output: a tensor or several. Nothing inside is recorded. An input that a gradient is asked for is not changed in place. */
  forward(context: FunctionContext<Saved, State>, ...inputs: Inputs): Output;
  /** Computes the gradient of each input from those of the outputs. With `createGraph` what it does is recorded itself. */
  backward(
    context: FunctionContext<Saved, State>, ...gradients: OutputGradients<Output, FilledGradient<FillIn>> & readonly FilledGradient<FillIn>[]
  ): InputGradients<Inputs>;
}

/**
 * Makes a differentiable function from a forward and a backward, PyTorch's `torch.autograd.Function`. Inputs are tensors and anything else.
 *
 * The types of what is saved and kept come from forward's context where it is declared: `context: FunctionContext<[x: Tensor], { eps: number }>`.
 * Tensors that forward and backward make inside are freed when they return, as in a scope. Check a backward with {@link gradcheck}.
 *
 * @throws {CustomFunctionError} when called, for outputs that are no tensors or not its own; in a backward pass, for gradients that do not fit
 *   the inputs. What forward or backward throws comes out as it is.
 * @example
 * const square = torch.customFunction({
 *   name: "square",
 *   forward(context: torch.FunctionContext<[x: torch.Tensor]>, x: torch.Tensor) {
 *     context.saveForBackward(x);
 *     return x.mul(x);
 *   },
 *   backward(context, gradient) {
 *     const [x] = context.saved;
 *     return [gradient.mul(x).mul(2)];
 *   },
 * });
 * square(torch.tensor([3], [], { requiresGrad: true })).backward();
 */
export function customFunction<
  Inputs extends readonly unknown[], Output extends Tensor | readonly Tensor[] | readonly [Tensor, Tensor],
  Saved extends SavedTensors = readonly Tensor[], State extends object = Record<string, unknown>, FillIn extends boolean = true,
>(definition: CustomFunction<Inputs, Output, Saved, State, FillIn>): (...inputs: Inputs) => Output {
  return (...inputs) => apply(definition as unknown as AnyFunction, inputs) as Output;
}

interface AnyFunction {
  readonly name: string;
  readonly materializeGradients?: boolean;
  readonly onceDifferentiable?: boolean;
  forward(context: Call, ...inputs: readonly unknown[]): unknown;
  backward(context: Call, ...gradients: readonly (Tensor | null)[]): unknown;
}

function apply(definition: AnyFunction, inputs: readonly unknown[]): Tensor | readonly Tensor[] {
  const { name } = definition;
  const slots = inputs.map((input) => (input instanceof Tensor ? input.liveSlot(name) : -1));
  const versions = native.differentiableInputs(slots);
  const call = new Call(definition, slots.map((slot) => slot >= 0), inputs.map((_, i) => versions !== null && versions[i]! >= 0));
  return scope(() => {
    const given = noGrad(() => definition.forward(call, ...inputs));
    const outputs = checkedOutputs(name, given);
    const { saved, nonDifferentiable } = call.endForward(outputs);
    let results: Tensor[];
    if (versions === null) {
      // As where a graph is recorded, an input that is given back comes as another tensor with the same memory.
      results = outputs.map((output) => (inputs.includes(output) ? output.detach() : output));
    } else {
      const slotsOf = (tensors: SavedTensors): number[] => tensors.map((tensor) => (tensor === null ? -1 : tensor.liveSlot(name)));
      const replaced = naming(name, () => native.recordFunction(
        name, call, slots, versions, slotsOf(outputs), slotsOf(saved), slotsOf(nonDifferentiable), definition.materializeGradients ?? true,
      ));
      results = outputs.map((output, i) => (replaced[i]! < 0 ? output : new Tensor(replaced[i]!)));
    }
    return given instanceof Tensor ? results[0]! : results;
  });
}

function checkedOutputs(name: string, given: unknown): readonly Tensor[] {
  const outputs: readonly unknown[] = Array.isArray(given) ? given : [given];
  for (const [i, output] of outputs.entries()) {
    const place = Array.isArray(given) ? ` as output ${i}` : "";
    if (!(output instanceof Tensor)) {
      throw new CustomFunctionError(`${name}: forward gave ${describe(output)}${place}; it gives a tensor, or an array of tensors`);
    }
    if (outputs.indexOf(output) < i) {
      throw new CustomFunctionError(`${name}: forward gave the same tensor as output ${outputs.indexOf(output)} and ${i}; give a clone() as one of them`);
    }
  }
  return outputs as readonly Tensor[];
}

/** One call of a function. The node in the graph holds it, so it must hold no tensors itself. */
class Call implements FunctionContext<SavedTensors> {
  readonly state: Record<string, unknown> = {};
  #pass: { readonly call: number; saved: SavedTensors | null } | null = null;
  #toSave: SavedTensors | null = null;
  #nonDifferentiable: readonly Tensor[] | null = null;
  #forward = true;

  constructor(
    private readonly definition: AnyFunction, private readonly isTensor: readonly boolean[], private needed: readonly boolean[],
  ) {}

  get needsInputGrad(): readonly boolean[] {
    return this.needed;
  }

  saveForBackward(...tensors: SavedTensors): void {
    this.#requireForward("saveForBackward", this.#toSave);
    this.#toSave = tensors;
  }

  markNonDifferentiable(...outputs: readonly Tensor[]): void {
    this.#requireForward("markNonDifferentiable", this.#nonDifferentiable);
    this.#nonDifferentiable = outputs;
  }

  get saved(): SavedTensors {
    if (this.#pass === null) throw this.#error("context.saved is there in backward only; forward has the tensors themselves");
    return (this.#pass.saved ??= naming(this.definition.name, () => native.savedTensors(this.#pass!.call)).map(wrap));
  }

  /** What forward asked for. */
  endForward(outputs: readonly Tensor[]): { saved: SavedTensors; nonDifferentiable: readonly Tensor[] } {
    const [saved, nonDifferentiable] = [this.#toSave ?? [], this.#nonDifferentiable ?? []];
    this.#forward = false;
    this.#toSave = this.#nonDifferentiable = null;
    for (const [key, value] of Object.entries(this.state)) {
      if (value instanceof Tensor) throw this.#error(`context.state.${key} is a tensor, which ends with forward; give it to saveForBackward()`);
    }
    for (const tensor of nonDifferentiable) {
      if (!outputs.includes(tensor)) throw this.#error("markNonDifferentiable() was given a tensor that is no output; give it outputs");
    }
    return { saved, nonDifferentiable };
  }

  /** Called by the graph's node. */
  runBackward(call: number, gradients: readonly number[], needed: readonly boolean[]): void {
    const { definition, needed: outerNeeded } = this;
    const outerPass = this.#pass; // where backward runs a pass over its own graph
    scope(() => {
      const given = gradients.map(wrap);
      if (definition.onceDifferentiable === true && isGradEnabled()) {
        throw this.#error("its backward cannot be differentiated again; leave out createGraph");
      }
      this.#pass = { call, saved: null };
      this.needed = needed;
      try {
        const results = refusePromise(definition.backward(this, ...given), `${definition.name}: backward returned a Promise, and its pass cannot wait; make it synchronous`);
        const slots = this.#slotsOfGradients(results);
        naming(definition.name, () => native.giveGradients(call, slots));
      } finally {
        this.#pass = outerPass;
        this.needed = outerNeeded;
      }
    });
  }

  #slotsOfGradients(results: unknown): number[] {
    const { isTensor } = this;
    const expected = `it gives an array of ${isTensor.length}, a gradient for each input and null for what needs none`;
    if (!Array.isArray(results)) throw this.#error(`backward gave ${describe(results)}; ${expected}`);
    // Inputs that were left out, or are no tensors, may be left out here.
    const count = Math.max(isTensor.lastIndexOf(true) + 1, results.findLastIndex((result) => result !== null && result !== undefined) + 1);
    if (results.length < count || count > isTensor.length) throw this.#error(`backward gave ${results.length} gradients; ${expected}`);
    return isTensor.map((tensor, i) => {
      const result: unknown = results[i] ?? (tensor ? results[i] : null);
      if (result === null) return -1;
      if (!(result instanceof Tensor)) throw this.#error(`backward gave ${describe(result)} as the gradient of input ${i}; give a tensor, or null for none`);
      if (!tensor) throw this.#error(`backward gave ${describe(result)} as the gradient of input ${i}, which is no tensor; give null`);
      return result.liveSlot(`${this.definition.name}'s backward`);
    });
  }

  #requireForward(method: string, before: unknown): void {
    if (!this.#forward) throw this.#error(`${method}() was called after forward; call it there`);
    if (before !== null) throw this.#error(`${method}() was called twice, and the second call would replace the first; give it all in one`);
  }

  #error(message: string): CustomFunctionError {
    return new CustomFunctionError(`${this.definition.name}: ${message}`);
  }
}

native.setCustomBackward((context, call, gradients, needed) => (context as Call).runBackward(call, gradients, needed));

const wrap = (slot: number): Tensor | null => (slot < 0 ? null : new Tensor(slot));

/** What the addon refuses, with the function's name. */
function naming<T>(name: string, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    throw new CustomFunctionError(`${name}: ${(error as Error).message}`, { cause: error });
  }
}

function describe(value: unknown): string {
  if (value instanceof Tensor) return value.disposed ? "a disposed tensor" : `${value.dtype}[${value.shape.join(", ")}]`;
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
