import { native } from "../native.js";
import { argumentBuffer } from "./argumentBuffer.js";
import { refusePromise } from "./synchronous.js";
import { Tensor } from "./tensor.js";

/**
 * The lifetime of tensors. Node-API finalizers do not run inside a synchronous loop, so nothing here relies on garbage collection:
 * a scope lists what was made inside and frees it in one native call.
 */
export class Scope {
  #tensors: Tensor[] = [];
  #closed = false;

  /** Records a tensor that this scope frees when it closes. */
  adopt(tensor: Tensor): void {
    tensor.owner = this;
    this.#tensors.push(tensor);
  }

  /**
   * Runs `fn` synchronously; tensors made inside live until this scope closes, whatever happens in between. For asynchronous code:
   * no other code that runs while one awaits can be recorded by mistake.
   *
   * ```ts
   * using scope = torch.openScope();
   * const features = scope.run(() => model.forward(images));
   * await send(features.data());
   * ```
   */
  run<T>(fn: () => T): T {
    if (this.#closed) throw new Error("Scope.run: the scope has ended; open another with openScope().");
    const outer = current;
    current = this;
    try {
      return refusePromise(fn(), promiseAdvice);
    } finally {
      current = outer;
    }
  }

  /** Frees everything recorded that was not kept or moved out. Calling it again does nothing. */
  close(): void {
    this.#closed = true;
    const tensors = this.#tensors;
    this.#tensors = [];
    release(tensors, this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

let current: Scope | null = null;

/** Called for every new tensor. */
export function track(tensor: Tensor): void {
  if (current !== null) current.adopt(tensor);
}

/**
 * Runs `fn` and frees every tensor made inside, also when it throws, except those in its result (a tensor, or tensors in arrays, plain
 * objects, Maps and Sets, which move to the surrounding scope) and those that were `keep()`-ed.
 *
 * @throws Error when `fn` returns a promise: use `openScope()` in asynchronous code.
 * @example const norm = torch.scope(() => x.mul(x).sum().sqrt()); // the two temporaries are gone
 */
export function scope<T>(fn: () => T): T {
  const inner = new Scope();
  const outer = current;
  current = inner;
  let result: T;
  try {
    result = refusePromise(fn(), promiseAdvice);
    current = outer;
    moveOut(result, inner, outer, 0);
  } finally {
    current = outer;
    inner.close();
  }
  return result;
}

/** A scope for asynchronous code, closed by `using` or `close()`; see {@link Scope.run}. */
export function openScope(): Scope {
  return new Scope();
}

/** Takes a tensor out of the scope it was made in: it lives until `dispose()`. Returns the tensor. */
export function keep(tensor: Tensor): Tensor {
  tensor.owner = null;
  return tensor;
}

const promiseAdvice =
  "scope: the function returned a Promise, and its tensors would be freed before it settles. Use `using s = openScope()`.";

function moveOut(value: unknown, from: Scope, to: Scope | null, depth: number): void {
  if (value === null || typeof value !== "object" || depth > 8) return;
  if (value instanceof Tensor) {
    if (value.owner !== from) return;
    if (to === null) value.owner = null;
    else to.adopt(value);
  } else if (Array.isArray(value) || value instanceof Set) {
    for (const element of value) moveOut(element, from, to, depth + 1);
  } else if (value instanceof Map) {
    for (const element of value.values()) moveOut(element, from, to, depth + 1);
  } else {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return;
    for (const element of Object.values(value)) moveOut(element, from, to, depth + 1);
  }
}

/**
 * Frees tensors' slots, and those of their gradients' handles, at once; those already freed are passed over.
 *
 * @param owner if given, tensors that belong elsewhere are passed over, too
 */
export function release(tensors: readonly Tensor[], owner?: Scope): void {
  const slots = argumentBuffer();
  let count = 0;
  for (const tensor of tensors) {
    if (owner !== undefined && tensor.owner !== owner) continue;
    for (let handle: Tensor | null = tensor; handle !== null && handle.slot >= 0;) {
      if (count === slots.length) {
        native.free(count);
        count = 0;
      }
      slots[count++] = handle.slot;
      handle.slot = -1;
      const gradient: Tensor | null = handle.gradHandle;
      handle.gradHandle = null;
      handle = gradient;
    }
  }
  if (count > 0) native.free(count);
}
