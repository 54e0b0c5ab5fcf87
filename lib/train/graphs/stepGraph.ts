import * as torch from "../../torch/index.js";
import type { RecordedGraph, Tensor } from "../../torch/index.js";
import type { StepRecorder } from "./stepRecorder.js";

/** Steps that run as usual before one is recorded: libraries choose kernels and take their workspaces at the first ones. */
export const WARM_UP_STEPS = 3;

/** The device work of a step: reads the inputs, leaves gradients in the parameters, returns what is read later. */
export type StepWork = (inputs: readonly Tensor[]) => readonly Tensor[];

export interface StepGraphOptions {
  /** Null: every step runs as it is. */
  recorder: StepRecorder | null;
  /** The recording failed, for this reason; training goes on without. */
  onFallback?: (reason: string) => void;
}

interface Recorded {
  /** Where the work reads its inputs. */
  inputs: readonly Tensor[];
  /** Its outputs: what the work returned, and the gradients. */
  graph: RecordedGraph;
  /** The parameters that got a gradient. */
  learned: readonly Tensor[];
}

/**
 * Runs the device work of training steps, from the forward pass to the gradients, as one CUDA graph: a single launch in place of thousands,
 * which is what a step of few images spends most of its time on.
 *
 * The first steps run as usual; then one is recorded, for the shapes that its inputs have, and from there on each step copies its inputs to
 * where the recorded ones lay and launches. Inputs of other shapes run as usual, and are recorded in turn when they stay. The kernels are
 * the same, in the same order, on the same numbers, so the results are, too.
 *
 * What changes from step to step outside of the inputs must be a tensor, as the loss scale is, or stay outside: the momentum update comes
 * before, the optimiser's step after. Both are few launches, and a step that is not finite, or is to be skipped, then stops before a weight is
 * touched, as without a graph. The work's JavaScript runs only where the step is not a launch: what it learns, it returns.
 */
export class StepGraph {
  readonly #parameters: readonly Tensor[];
  readonly #onFallback: (reason: string) => void;
  #recorder: StepRecorder | null;
  /** Shapes that the steps have had of late. */
  #shapes = "";
  #stepsOfShapes = 0;
  #recorded: Recorded | null = null;

  /** @param parameters those that may get a gradient */
  constructor(parameters: readonly Tensor[], { recorder, onFallback = () => undefined }: StepGraphOptions) {
    this.#parameters = parameters.filter((parameter) => parameter.requiresGrad);
    this.#recorder = recorder;
    this.#onFallback = onFallback;
  }

  /** Whether the next step of the same shapes is one launch. */
  get isRecorded(): boolean {
    return this.#recorded !== null;
  }

  /**
   * Does a step's work, whichever way; gradients are set then, and the caller sets them to null before the next step.
   *
   * @returns what the work returns, valid until the next step
   */
  run(inputs: readonly Tensor[], work: StepWork): readonly Tensor[] {
    if (this.#recorder === null) return work(inputs);
    const shapes = inputs.map(({ shape, strides, dtype, device }) => `${dtype}[${shape}][${strides}]@${device}`).join();
    if (shapes !== this.#shapes) this.invalidate();
    this.#shapes = shapes;
    if (this.#recorded !== null) return this.#launch(inputs, this.#recorded);
    if (this.#stepsOfShapes++ < WARM_UP_STEPS) return this.#recorder.prepare(() => work(inputs));
    try {
      this.#recorded = this.#record(inputs, work, this.#recorder);
    } catch (error) {
      this.#recorder = null;
      for (const parameter of this.#parameters) parameter.grad = null;
      this.#onFallback((error as Error).message.split("\n").join(" "));
      return work(inputs);
    }
    return this.#launch(inputs, this.#recorded);
  }

  /** Forgets the recording. */
  invalidate(): void {
    this.#stepsOfShapes = 0;
    if (this.#recorded === null) return;
    const { inputs, graph } = this.#recorded;
    this.#recorded = null;
    for (const parameter of this.#parameters) parameter.grad = null; // it lies in the graph's memory
    graph.dispose();
    inputs.forEach((input) => input.dispose());
  }

  dispose(): void {
    this.invalidate();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #record(inputs: readonly Tensor[], work: StepWork, recorder: StepRecorder): Recorded {
    // Not in the graph's own memory, where kernels of the graph might write before these are read.
    const fixed = torch.noGrad(() => inputs.map((input) => torch.keep(input.clone())));
    let learned: readonly Tensor[] = [];
    try {
      const graph = recorder.record(() => {
        // Gradients that were not there are written by each launch; others would be added to.
        for (const parameter of this.#parameters) parameter.grad = null;
        const found = work(fixed);
        learned = this.#parameters.filter(({ grad }) => grad !== null);
        // Further handles of the gradients, which stay when those of the parameters go.
        return [...found.map((each) => each.detach()), ...learned.map(({ grad }) => grad!.detach())];
      });
      return { inputs: fixed, graph, learned };
    } catch (error) {
      fixed.forEach((input) => input.dispose());
      throw error;
    }
  }

  #launch(inputs: readonly Tensor[], { inputs: fixed, graph, learned }: Recorded): readonly Tensor[] {
    torch.noGrad(() => fixed.forEach((input, i) => input.copy_(inputs[i]!)));
    graph.replay();
    const found = graph.outputs.slice(0, graph.outputs.length - learned.length);
    const gradients = graph.outputs.slice(found.length);
    learned.forEach((parameter, i) => (parameter.grad = gradients[i]!));
    return found.map((each) => each.detach());
  }
}
