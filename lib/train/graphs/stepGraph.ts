import type { Optimizer } from "../../optim/index.js";
import type { Tensor } from "../../torch/index.js";
import type { StepRecorder } from "./stepRecorder.js";
import { WorkGraph, type StepWork } from "./workGraph.js";

export interface StepGraphOptions {
  /** Null: every step runs as it is. */
  recorder: StepRecorder | null;
  /** A part of the step could not be recorded, for this reason, and runs as it is from then on. */
  onFallback?: (part: "step" | "update", reason: string) => void;
}

/**
 * Launches a training step as two CUDA graphs: all that gives gradients and what is to be known about them, and, once that was judged here, the
 * optimiser's update. A step that is not finite, or is to be skipped, stops between the two, before a weight is touched, as it does without graphs.
 *
 * The update is recorded some steps after the other part, as it reads the gradients in that one's memory. It is recorded anew with it, and when the
 * optimiser has other tensors than then, as after a rollback to its very beginning.
 *
 * Our own networks draw no random numbers in a step; an encoder that does draws in each launch what it would have drawn kernel by kernel.
 */
export class StepGraph implements Disposable {
  readonly #learning: readonly Tensor[];
  readonly #compute: WorkGraph;
  readonly #update: WorkGraph;
  /** The parameters that got a gradient. */
  #learned: readonly Tensor[] = [];

  /** @param optimizer with its rates on the device */
  constructor(private readonly optimizer: Pick<Optimizer, "parameters" | "stateTensors">, { recorder, onFallback }: StepGraphOptions) {
    this.#learning = optimizer.parameters().filter(({ requiresGrad }) => requiresGrad);
    this.#compute = new WorkGraph(recorder, (reason) => onFallback?.("step", reason));
    this.#update = new WorkGraph(recorder, (reason) => onFallback?.("update", reason));
  }

  /** Which parts of the next step are launches, if its inputs have the same shapes. */
  get recorded(): { compute: boolean; update: boolean } {
    return { compute: this.#compute.recording !== null, update: this.#update.recording !== null };
  }

  /**
   * Does the work that leaves gradients in the parameters, whichever way; the caller sets them to null before the next step.
   *
   * @returns what the work returns, valid until the next step
   */
  compute(inputs: readonly Tensor[], work: StepWork): readonly Tensor[] {
    if (this.#compute.isOff) return work(inputs);
    const shapes = inputs.map(({ shape, strides, dtype, device }) => `${dtype}[${shape}][${strides}]@${device}`);
    const found = this.#compute.run(shapes, inputs, (given) => {
      // Gradients that are not there are written by each launch; others would be added to.
      this.#dropGradients();
      const results = work(given);
      this.#learned = this.#learning.filter(({ grad }) => grad !== null);
      // Further handles of the gradients, which stay when those of the parameters go.
      return [...results, ...this.#learned.map(({ grad }) => grad!.detach())];
    });
    const results = found.slice(0, found.length - this.#learned.length);
    this.#learned.forEach((parameter, i) => (parameter.grad = found[results.length + i]!));
    return results.map((each) => each.detach());
  }

  /** Does the work that changes the parameters by their gradients. It may change gradients in place, or leave the work of a step out altogether. */
  update(work: () => void): void {
    const recordable = (): [] => {
      work();
      return [];
    };
    const { recording } = this.#compute;
    if (recording === null) {
      this.#update.invalidate(); // it reads gradients where they no longer are
      this.#update.runAsItIs([], recordable);
    } else this.#update.run([recording, ...this.optimizer.stateTensors()], [], recordable);
  }

  /** Forgets the recordings, as for a network that has other tensors. */
  invalidate(): void {
    this.#update.invalidate();
    if (this.#compute.recording !== null) this.#dropGradients(); // they lie in the graph's memory
    this.#compute.invalidate();
  }

  [Symbol.dispose](): void {
    this.invalidate();
  }

  #dropGradients(): void {
    for (const parameter of this.#learning) parameter.grad = null;
  }
}
