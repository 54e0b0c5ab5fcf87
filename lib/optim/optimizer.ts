import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";
import { DeviceScalar } from "./deviceScalar.js";
import { asPython, OptimizerStateError, parseState, snakeCase, sortOptions } from "./savedState.js";

/** An optimiser was given an option or a list of parameters that it cannot use. */
export class OptimizerOptionError extends Error {
  override readonly name = "OptimizerOptionError";
}

/** Options that belong to a set of parameters; `lr` is set before every step by a schedule. */
export interface OptimizerOptions {
  lr: number;
  /** A group's share of the scheduled learning rate, for rates that fall from layer to layer. Default 1. */
  lrScale?: number;
}

/** Where an optimiser has its learning rates. */
export interface RatePlacement {
  /**
   * In the memory of the parameters' device, in float32, so that a step that was recorded as a CUDA graph reads the rate of its time. Only
   * `setLearningRate` changes them then, and all parameters of a group need one device and float32 or a smaller type. Default false: each step
   * gets them as numbers from JavaScript.
   */
  ratesOnDevice?: boolean;
}

/** Parameters that share options. */
export type ParamGroup<Options extends OptimizerOptions> = Options & { params: Tensor[] };

/** Parameters, or several groups of them whose options override the optimiser's own. */
export type Params<Options> = Iterable<Tensor> | (Partial<Options> & { params: Iterable<Tensor> })[];

/**
 * PyTorch's layout: parameters are numbered in the order in which the optimiser got them, `state` is keyed by that number, and options
 * carry PyTorch's names (`weight_decay`), so that `torch.optim` loads what we save and the other way round. Whole numbers come as
 * `PythonFloat`, as PyTorch's options are floats.
 */
export interface OptimizerStateDict {
  state: Map<number, Map<string, Tensor>>;
  param_groups: (Record<string, unknown> & { params: number[] })[];
}

/** State tensors of one parameter, under PyTorch's names (`exp_avg`, `momentum_buffer`, `mu`). */
export type ParamState = Map<string, Tensor>;

/**
 * Base of all optimisers. It is given all parameters of a model, frozen ones included, because their positions are the indices of a saved
 * state; a parameter without a gradient is left alone and gets no state.
 */
export abstract class Optimizer<Options extends OptimizerOptions = OptimizerOptions> {
  readonly paramGroups: ParamGroup<Options>[];
  protected readonly state = new Map<Tensor, ParamState>();
  /** Options of a loaded state that are not ours, by group; they are saved again. */
  readonly #foreignOptions = new Map<ParamGroup<Options>, ReadonlyMap<string, unknown>>();
  /** Learning rates of the groups in device memory; empty where they are not there. */
  readonly #rates = new Map<ParamGroup<Options>, DeviceScalar>();

  protected constructor(params: Params<Options>, options: Options, { ratesOnDevice = false }: RatePlacement = {}) {
    const items = [...params] as (Tensor | (Partial<Options> & { params: Iterable<Tensor> }))[];
    const groups = items.every((item) => item instanceof Tensor) ? [{ params: items as Tensor[] }] : items;
    this.paramGroups = groups.map((group) => {
      if (group instanceof Tensor || !("params" in group)) {
        throw new OptimizerOptionError("parameters and groups of parameters are mixed; give tensors only, or { params, ... } objects only");
      }
      return { ...options, ...group, params: [...group.params] } as ParamGroup<Options>;
    });
    const all = this.parameters();
    if (all.length === 0) throw new OptimizerOptionError("an optimiser needs at least one parameter, and the list is empty");
    if (new Set(all).size < all.length) throw new OptimizerOptionError("a parameter occurs twice; list each parameter once");
    for (const group of this.paramGroups) this.checkOptions(group);
    if (!ratesOnDevice) return;
    for (const group of this.paramGroups) this.#rates.set(group, new DeviceScalar(group.lr, group.params[0]!.device));
  }

  /** Throws {@link OptimizerOptionError} for an option outside its range. */
  protected abstract checkOptions(options: Options): void;

  /** State tensors, by PyTorch's names, without which a parameter that has been stepped cannot go on. */
  protected abstract requiredState(options: Options): readonly string[];

  /** Whether a saved state tensor is one that this optimiser uses. */
  protected abstract knowsState(key: string): boolean;

  /** Moves `params` against their `gradients` (same length, none missing). Runs without autograd; temporaries are freed afterwards. */
  protected abstract update(group: ParamGroup<Options>, params: Tensor[], gradients: Tensor[]): void;

  /** All parameters in the order that gives them their indices. */
  parameters(): Tensor[] {
    return this.paramGroups.flatMap((group) => group.params);
  }

  /** Sets the learning rate of every group, times the group's `lrScale`, as schedules do before each step. */
  setLearningRate(lr: number): void {
    for (const group of this.paramGroups) group.lr = lr * (group.lrScale ?? 1);
    this.#writeRates();
  }

  /** One update of every parameter that has a gradient. With `ratesOnDevice` it can be recorded, once each of these has been stepped. */
  step(): void {
    torch.noGrad(() =>
      torch.scope(() => {
        for (const group of this.paramGroups) {
          const params: Tensor[] = [];
          const gradients: Tensor[] = [];
          for (const param of group.params) {
            const gradient = param.grad;
            if (gradient === null) continue;
            params.push(param);
            gradients.push(gradient);
          }
          if (params.length > 0) this.update(group, params, gradients);
        }
      }),
    );
  }

  /** Drops all gradients (they become `null`, which frees their memory). */
  zeroGrad(): void {
    for (const group of this.paramGroups) for (const param of group.params) param.grad = null;
  }

  /** What a step reads and writes besides parameters, gradients and rates. Other tensors after a first step and after `loadStateDict`. */
  stateTensors(): Tensor[] {
    return [...this.state.values()].flatMap((state) => [...state.values()]);
  }

  /** The state and options in PyTorch's layout. Tensors are the optimiser's own, not copies: the next step changes them. */
  stateDict(): OptimizerStateDict {
    const index = new Map(this.parameters().map((param, i) => [param, i]));
    const state: OptimizerStateDict["state"] = new Map();
    for (const [param, values] of this.state) state.set(index.get(param)!, new Map(values));
    const groups = this.paramGroups.map((group) => {
      const { params, ...options } = group;
      return {
        ...Object.fromEntries(Object.entries(options).map(([key, value]) => [snakeCase(key), asPython(value)])),
        ...Object.fromEntries(this.#foreignOptions.get(group) ?? []),
        params: params.map((param) => index.get(param)!),
      };
    });
    return { state, param_groups: groups };
  }

  /**
   * Takes over a saved state: ours, or one that `torch.optim` or upstream's LARS wrote (plain objects, Maps and tensors as a checkpoint
   * reader returns them). Values are copied, and take the dtype, device and memory layout of their parameter.
   *
   * Options are taken over too, as in PyTorch. Those that this optimiser does not know do nothing and are saved again; state tensors
   * that it does not know are left out.
   *
   * @throws OptimizerStateError where it is another optimiser's, or groups, number of parameters, shapes or options do not fit; nothing
   * is changed then
   */
  loadStateDict(saved: unknown): void {
    const { groups, state: savedState } = parseState(saved);
    if (groups.length !== this.paramGroups.length) {
      throw new OptimizerStateError(
        `the saved state has ${groups.length} parameter groups and this optimiser ${this.paramGroups.length}; build it as it was when saved`,
      );
    }
    const options = this.paramGroups.map((group, g) => {
      const { known, foreign } = sortOptions(group, groups[g].options, `param_groups[${g}]`);
      const merged = { ...group, ...known };
      try {
        this.checkOptions(merged);
      } catch (error) {
        throw new OptimizerStateError(`the saved options cannot be used: ${(error as Error).message}`, { cause: error });
      }
      return { merged, known, foreign };
    });
    const placeOf = new Map<number, { param: Tensor; options: Options }>();
    this.paramGroups.forEach(({ params }, g) => {
      const indices = groups[g].params;
      if (indices.length !== params.length) {
        throw new OptimizerStateError(
          `group ${g} of the saved state has ${indices.length} parameters and this optimiser's ${params.length}; ` +
            "it was saved from another architecture, or from an optimiser that was given fewer parameters",
        );
      }
      indices.forEach((index, i) => placeOf.set(index, { param: params[i], options: options[g].merged }));
    });
    const fresh: [Tensor, ParamState][] = [];
    try {
      for (const [index, values] of savedState) {
        const place = placeOf.get(index);
        if (place === undefined) throw new OptimizerStateError(`the saved state is for parameter ${index}, which no group lists`);
        const state: ParamState = new Map();
        fresh.push([place.param, state]);
        this.#restoreState(place.param, place.options, values, state, `state[${index}]`);
      }
    } catch (error) {
      for (const [, state] of fresh) for (const tensor of state.values()) tensor.dispose();
      throw error;
    }
    this.disposeState();
    for (const [param, state] of fresh) if (state.size > 0) this.state.set(param, state);
    this.paramGroups.forEach((group, g) => {
      Object.assign(group, options[g].known);
      this.#foreignOptions.set(group, options[g].foreign);
    });
    this.#writeRates();
  }

  /** Frees the state; the parameters belong to their module and stay. */
  dispose(): void {
    this.disposeState();
    for (const rate of this.#rates.values()) rate[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A group's learning rate as kernels are to take it: a number, or a tensor [] in device memory. */
  protected rateOf(group: ParamGroup<Options>): number | Tensor {
    const rate = this.#rates.get(group);
    if (rate === undefined) return group.lr;
    if (rate.value !== group.lr) {
      throw new OptimizerOptionError(`a group's lr is ${group.lr}, and on the device it is ${rate.value}; with ratesOnDevice it is set by setLearningRate`);
    }
    return rate.tensor;
  }

  #writeRates(): void {
    for (const [group, rate] of this.#rates) rate.set(group.lr);
  }

  /** State of a parameter, made by `create` at its first step. */
  protected stateOf(param: Tensor, create: () => Record<string, Tensor>): ParamState {
    let state = this.state.get(param);
    if (state === undefined) {
      state = new Map(Object.entries(create()));
      for (const tensor of state.values()) torch.keep(tensor);
      this.state.set(param, state);
    }
    return state;
  }

  /** Copies one saved value. A subclass with state that does not look like its parameter (a step count) overrides this. */
  protected restore(param: Tensor, _key: string, value: unknown, where: string): Tensor {
    if (!(value instanceof Tensor)) {
      throw new OptimizerStateError(`${where} should be a tensor of shape [${param.shape}] and is ${typeof value}; is this another optimiser's state?`);
    }
    if (value.shape.length !== param.shape.length || value.shape.some((size, i) => size !== param.shape[i])) {
      throw new OptimizerStateError(
        `${where} has shape [${value.shape}] and its parameter [${param.shape}]; the state was saved from another architecture`,
      );
    }
    // The fused kernels walk storage and need state laid out exactly like the parameter, hence a copy into a tensor made from it.
    return torch.noGrad(() => torch.keep(torch.emptyLike(param).copy_(value)));
  }

  /** Copies one parameter's saved values into `state`. */
  #restoreState(param: Tensor, options: Options, values: ReadonlyMap<string, unknown>, state: ParamState, where: string): void {
    const required = this.requiredState(options);
    for (const [key, value] of values) {
      // SGD of older PyTorch saves a missing buffer as None.
      if (value === null || value === undefined || !this.knowsState(key)) continue;
      state.set(key, this.restore(param, key, value, `${where}.${key}`));
    }
    const missing = values.size === 0 ? [] : required.filter((key) => !state.has(key));
    if (missing.length > 0) {
      throw new OptimizerStateError(
        `${where} has no ${missing.join(", ")}, but ${[...values.keys()].join(", ")}; it is another optimiser's state, or damaged`,
      );
    }
  }

  private disposeState(): void {
    for (const state of this.state.values()) for (const tensor of state.values()) tensor.dispose();
    this.state.clear();
  }
}
