import * as torch from "../torch/index.js";
import { isDType, type Tensor } from "../torch/index.js";
import { checkStateDict, type LoadResult, type StateDict } from "./stateDict.js";

/** A module of any signature: what a parent may hold as a child. */
export type AnyModule = Module<never[], unknown>;

/**
 * Base of every layer and network, after PyTorch's `nn.Module`.
 *
 * A subclass registers what it owns in its constructor and overrides `forward`:
 *
 * ```ts
 * class Perceptron extends Module {
 *   readonly hidden = this.child("hidden", new Linear(8, 16));
 *   readonly output = this.child("output", new Linear(16, 2));
 *   forward(x: Tensor): Tensor {
 *     return this.output.forward(torch.relu(this.hidden.forward(x)));
 *   }
 * }
 * ```
 *
 * Calling `forward` opens a `torch.scope`: temporaries made inside die when it returns, only the result stays. Parameters and buffers are
 * kept until `dispose()`. The order of registration is the order of `parameters()` and `stateDict()`, as in PyTorch.
 */
export abstract class Module<Inputs extends unknown[] = [Tensor], Output = Tensor> {
  readonly #parameters = new Map<string, Tensor>();
  readonly #buffers = new Map<string, Tensor>();
  readonly #children = new Map<string, AnyModule>();
  #training = true;

  constructor() {
    const forward = this.forward;
    this.forward = (...inputs: Inputs): Output => torch.scope(() => forward.apply(this, inputs));
  }

  abstract forward(...inputs: Inputs): Output;

  /** True while the module is in training mode (the default): batch normalisation then uses and records batch statistics. */
  get training(): boolean {
    return this.#training;
  }

  /** Direct children by name, in registration order. */
  get children(): ReadonlyMap<string, AnyModule> {
    return this.#children;
  }

  /** Registers a trainable tensor under `name`, keeps it out of any open scope and returns it. */
  protected parameter(name: string, tensor: Tensor, { requiresGrad = true } = {}): Tensor {
    this.#claim(name, this.#parameters);
    this.#parameters.set(name, torch.keep(tensor).requiresGrad_(requiresGrad));
    return tensor;
  }

  /** Registers a tensor that belongs to the state but is not trained, such as a running mean. */
  protected buffer(name: string, tensor: Tensor): Tensor {
    this.#claim(name, this.#buffers);
    this.#buffers.set(name, torch.keep(tensor));
    return tensor;
  }

  /** Registers a child module. A name that is already a child's is replaced in its place; the former child belongs to the caller then. */
  protected child<M extends AnyModule>(name: string, module: M): M {
    this.#claim(name, this.#children);
    this.#children.set(name, module);
    return module;
  }

  #claim(name: string, owner: ReadonlyMap<string, unknown>): void {
    if (name === "" || name.includes(".")) {
      throw new TypeError(
        `"${name}" cannot name a part of ${this.constructor.name}: names are not empty and have no dot, which separates levels.`,
      );
    }
    for (const map of [this.#parameters, this.#buffers, this.#children]) {
      if (map !== owner && map.has(name)) {
        throw new TypeError(
          `${this.constructor.name} already has "${name}" of another kind (parameter, buffer or child): choose another name.`,
        );
      }
    }
  }

  /** This module (as `""`) and all below it with their dotted names, parents before children. */
  *namedModules(prefix = ""): IterableIterator<[string, AnyModule]> {
    yield [prefix, this];
    for (const [name, child] of this.#children) yield* child.namedModules(joined(prefix, name));
  }

  /** Parameters with their dotted names: own ones first, then the children's. A tensor shared by two modules appears once. */
  namedParameters(): [string, Tensor][] {
    const seen = new Set<Tensor>();
    const found: [string, Tensor][] = [];
    for (const [path, module] of this.namedModules()) {
      for (const [name, tensor] of module.#parameters) {
        if (seen.has(tensor)) continue;
        seen.add(tensor);
        found.push([joined(path, name), tensor]);
      }
    }
    return found;
  }

  parameters(): Tensor[] {
    return this.namedParameters().map(([, tensor]) => tensor);
  }

  namedBuffers(): [string, Tensor][] {
    const found: [string, Tensor][] = [];
    for (const [path, module] of this.namedModules()) {
      for (const [name, tensor] of module.#buffers) found.push([joined(path, name), tensor]);
    }
    return found;
  }

  /** Parameters and buffers under PyTorch's keys and in its order. The tensors are the live ones, not copies. */
  stateDict(): StateDict {
    const state: StateDict = new Map();
    for (const [path, module] of this.namedModules()) {
      for (const [name, tensor] of module.#parameters) state.set(joined(path, name), tensor);
      for (const [name, tensor] of module.#buffers) state.set(joined(path, name), tensor);
    }
    return state;
  }

  /**
   * Copies the values of `state` into this module's tensors, converting dtype and device. Nothing is copied unless everything fits.
   *
   * @param state values by key
   * @param options `strict`: keys must match exactly (default). With `false`, keys on one side only are skipped and returned.
   * @throws StateDictError that lists missing keys, unexpected keys and, strict or not, keys whose shapes differ.
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>, { strict = true } = {}): LoadResult {
    const own = this.stateDict();
    const result = checkStateDict(this.constructor.name, own, state, strict);
    torch.noGrad(() => {
      for (const [key, tensor] of own) {
        const source = state.get(key);
        if (source) tensor.copy_(source);
      }
    });
    return result;
  }

  /** Puts this module and all below it into training mode, or with `false` into evaluation mode. */
  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.#training = mode;
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /** Sets whether parameters collect gradients. */
  requiresGrad_(flag = true): this {
    for (const tensor of this.parameters()) tensor.requiresGrad_(flag);
    return this;
  }

  /** Drops all gradients. */
  zeroGrad(): void {
    for (const tensor of this.parameters()) tensor.grad = null;
  }

  /**
   * Moves to a device (`"cuda:0"`) or converts to a floating-point dtype (`"float64"`) in place: the same `Tensor` objects stay valid, so
   * an optimiser built before still holds them. Integer buffers keep their dtype. Gradients move along.
   */
  to(target: string): this {
    const isType = isDType(target);
    torch.noGrad(() =>
      torch.scope(() => {
        for (const tensor of new Set(this.stateDict().values())) {
          if (isType && !tensor.dtype.includes("float")) continue;
          moveInPlace(tensor, target);
        }
      }),
    );
    return this;
  }

  /** Frees all parameters and buffers. The module cannot be used afterwards. */
  dispose(): void {
    for (const tensor of new Set(this.stateDict().values())) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function moveInPlace(tensor: Tensor, target: string): void {
  const moved = tensor.to(target);
  if (moved === tensor) return;
  const grad = tensor.grad?.to(target) ?? null;
  tensor.grad = null;
  torch.setData(tensor, moved);
  if (grad) tensor.grad = grad;
}

function joined(prefix: string, name: string): string {
  return prefix === "" ? name : `${prefix}.${name}`;
}
