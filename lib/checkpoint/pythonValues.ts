/**
 * Python values that have no JavaScript counterpart of their own.
 *
 * Reading a checkpoint gives plain JavaScript wherever nothing is lost: None → null, bool, int → number (bigint beyond 2^53),
 * float → number, str → string, bytes and bytearray → Uint8Array, list → Array, set → Set. The classes here cover the rest,
 * and mark what writing must tell apart.
 */

/**
 * A Python float that must stay one. JavaScript cannot tell 1.0 from 1, so `writeCheckpoint` writes 1 as an int; where Python code
 * minds, write `new PythonFloat(1)`.
 */
export class PythonFloat {
  constructor(readonly value: number) {}

  valueOf(): number {
    return this.value;
  }

  /** In JSON, which does not tell either, it is its number. */
  toJSON(): number {
    return this.value;
  }
}

/** A Python tuple: an array that is written back as a tuple. Its `map`, `slice` and so on give ordinary arrays. */
export class PythonTuple<T = unknown> extends Array<T> {
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }

  /** A tuple of the given items. (`new PythonTuple(n)` is, as for `Array`, one of length `n`.) */
  static fromArray<T>(items: ArrayLike<T>): PythonTuple<T> {
    const tuple = new this<T>(items.length);
    for (let i = 0; i < items.length; i++) tuple[i] = items[i] as T;
    return tuple;
  }
}

/** A `torch.Size`. */
export class TorchSize extends PythonTuple<number> {}

/** A Python complex number. */
export class PythonComplex {
  constructor(readonly real: number, readonly imaginary: number) {}
}

/**
 * A `collections.OrderedDict`, which is what state dicts are. `attributes` are those set on the object itself: PyTorch keeps the
 * version of each module under `_metadata` there.
 */
export class OrderedDict<K = string, V = unknown> extends Map<K, V> {
  attributes: Record<string, unknown> | null = null;
}

/** The name of a Python class or function that a checkpoint mentions. Inert: nothing is imported or called. */
export class PythonGlobal {
  constructor(readonly module: string, readonly qualifiedName: string) {}

  toString(): string {
    return `${this.module}.${this.qualifiedName}`;
  }
}

/**
 * What a pickle says about an object of a class that is not known here, kept as data; only with the option
 * `unknownGlobals: "placeholder"`.
 */
export class PythonObject {
  /** The argument of `__setstate__`, or the attributes. */
  state: unknown = undefined;
  /** What was appended to it, for a subclass of list. */
  readonly items: unknown[] = [];
  /** What was set in it, for a subclass of dict. */
  readonly entries = new Map<unknown, unknown>();

  constructor(readonly global: PythonGlobal, readonly args: unknown) {}
}
