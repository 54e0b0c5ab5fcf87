import { native } from "../native.js";
import { Tensor } from "./tensor.js";

/**
 * A source of random numbers with a state of its own, like `torch.Generator`.
 *
 * @example torch.randn([2, 3], { generator: new torch.Generator().manualSeed(0) })
 */
export class Generator {
  /** Index in the addon's table. */
  readonly index: number;

  constructor(device = "cpu", index?: number) {
    this.index = index ?? native.createGenerator(device);
  }

  /** Starts the sequence that belongs to a seed (a whole number below 2^64). Returns this. */
  manualSeed(seed: number | bigint): this {
    native.generatorSeed(this.index, seedBits(seed));
    return this;
  }

  /** The state as a uint8 tensor. */
  getState(): Tensor {
    return new Tensor(native.generatorState(this.index));
  }

  /** Continues from a state that `getState` gave. Returns this. */
  setState(state: Tensor): this {
    native.setGeneratorState(this.index, state.liveSlot("setState"));
    return this;
  }
}

const defaults = new Map<string, Generator>();

function defaultGenerator(device: string): Generator {
  let generator = defaults.get(device);
  if (!generator) defaults.set(device, (generator = new Generator(device, native.defaultGenerator(device))));
  return generator;
}

function seedBits(seed: number | bigint): bigint {
  if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
    throw new TypeError(`a seed is a whole number, got ${seed}; pass an integer or a BigInt`);
  }
  return BigInt.asUintN(64, BigInt(seed));
}

/** Seeds the default generators of all devices. They are one per process: worker threads share them. */
export function manualSeed(seed: number | bigint): void {
  native.manualSeed(seedBits(seed));
}

/** State of the device's default generator, a uint8 tensor. */
export function getRngState(device = "cpu"): Tensor {
  return defaultGenerator(device).getState();
}

/** Sets the state of the device's default generator to one that `getRngState` gave. */
export function setRngState(state: Tensor, device = "cpu"): void {
  defaultGenerator(device).setState(state);
}
