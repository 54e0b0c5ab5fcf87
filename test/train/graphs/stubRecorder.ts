import { native } from "../../../lib/native.js";
import type { Module } from "../../../lib/nn/index.js";
import type { Optimizer } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import { Tensor, type RecordedGraph } from "../../../lib/torch/index.js";
import type { StepRecorder } from "../../../lib/train/graphs/stepRecorder.js";

/** What reads a value of a device, and so waits for it. */
const READERS = ["item", "data", "bytes", "toArray"] as const;

/** Operators in the order of their calls, with the numbers of JavaScript and the lasting memory that each was given. */
type Tape = string[];

/**
 * A recorder for the CPU that keeps to a CUDA graph's rules.
 *
 * - Recording runs nothing: network, optimiser state and random numbers are as they were, and its outputs have no values.
 * - A replay does the work on the memory that recording saw: the inputs', the network's, the optimiser's, the gradients'. Work that would be given
 *   other memory, other numbers of JavaScript, or other operators than when it was recorded, is an error here, where a GPU would go on with the old ones.
 * - Its results are in the memory of what recording gave. What the work's JavaScript leaves behind elsewhere is spoilt, as a replay runs none.
 * - Nothing is read while recording.
 */
export class StubRecorder implements StepRecorder {
  readonly events: string[] = [];
  /** Thrown by the recording of this number, counted from 0. */
  failure: { at: number; error: Error } | null = null;
  network: Module<never[]> | null = null;
  optimizer: Pick<Optimizer, "parameters" | "stateTensors"> | null = null;
  #recordings = 0;

  prepare<T>(fn: () => T): T {
    this.events.push("as it is");
    return fn();
  }

  record(fn: () => readonly Tensor[]): RecordedGraph {
    this.events.push("record");
    const { events, failure } = this;
    if (this.#recordings++ === failure?.at) throw failure.error;
    // Further handles, so that this memory is nobody else's while the recording lives.
    const lasting = this.#lastingTensors().map((tensor) => torch.keep(tensor.detach()));
    const places = new Map(lasting.map((tensor, i) => [memoryOf(tensor), i]));
    let recorded: Tape = [];
    let outputs: readonly Tensor[];
    try {
      outputs = torch.scope(() => {
        const before = torch.noGrad(() => lasting.map((tensor) => tensor.clone()));
        const random = torch.getRngState();
        let made: readonly Tensor[];
        try {
          ({ made, tape: recorded } = withoutReading(() => taped(fn, places)));
        } finally {
          torch.noGrad(() => lasting.forEach((tensor, i) => tensor.copy_(before[i]!)));
          torch.setRngState(random);
        }
        made.forEach((each) => torch.noGrad(() => each.fill_(NaN))); // nothing has run yet
        return made.map((each) => torch.keep(each));
      });
    } catch (error) {
      lasting.forEach((each) => each.dispose());
      throw error;
    }
    const dispose = (): void => {
      events.push("dispose");
      [...outputs, ...lasting].forEach((each) => each.dispose());
    };
    const replay = (): void => {
      events.push("replay");
      torch.scope(() => {
        const { made, tape } = withoutReading(() => taped(fn, places));
        requireSame(recorded, tape);
        torch.noGrad(() => outputs.forEach((output, i) => {
          output.copy_(made[i]!);
          made[i]!.fill_(NaN);
        }));
      });
    };
    return { outputs, replay, dispose, [Symbol.dispose]: dispose };
  }

  /** All that outlives a step, and gradients that are there already. */
  #lastingTensors(): Tensor[] {
    const { network, optimizer } = this;
    const gradients = optimizer!.parameters().flatMap(({ grad }) => (grad === null ? [] : [grad]));
    return [...network!.stateDict().values(), ...optimizer!.stateTensors(), ...gradients];
  }
}

const memoryOf = (tensor: Tensor): bigint => native.storage(tensor.liveSlot("memoryOf")).id;

function taped(fn: () => readonly Tensor[], places: ReadonlyMap<bigint, number>): { made: readonly Tensor[]; tape: Tape } {
  const tape: Tape = [];
  const shown = (value: unknown): string => {
    if (value instanceof Tensor) {
      const place = value.disposed ? undefined : places.get(memoryOf(value));
      return place === undefined ? "tensor" : `memory ${place}`;
    }
    if (Array.isArray(value)) return `[${value.map(shown).join()}]`;
    if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return String(value);
    return `{${Object.entries(value).map(([key, each]) => `${key}: ${shown(each)}`).join()}}`;
  };
  const made = torch.observeOperators((name, args) => tape.push(`${name}(${args.map(shown).join()})`), fn);
  return { made, tape };
}

function requireSame(recorded: Tape, replayed: Tape): void {
  const at = recorded.findIndex((call, i) => call !== replayed[i]);
  if (at < 0 && recorded.length === replayed.length) return;
  throw new Error(`a graph would go on with call ${at} as it was recorded, ${recorded[at]}, and the work is now ${replayed[at]}`);
}

function withoutReading<T>(fn: () => T): T {
  const refuse = (): never => {
    throw new Error("a value is read while recording");
  };
  const methods = READERS.map((name) => [name, Object.getOwnPropertyDescriptor(Tensor.prototype, name)!] as const);
  for (const [name] of methods) Object.defineProperty(Tensor.prototype, name, { value: refuse, configurable: true });
  try {
    return fn();
  } finally {
    for (const [name, descriptor] of methods) Object.defineProperty(Tensor.prototype, name, descriptor);
  }
}
