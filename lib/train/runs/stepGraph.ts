import type { MoCo } from "../../moco/index.js";
import * as torch from "../../torch/index.js";
import type { RecordedGraph, Tensor } from "../../torch/index.js";

/** Steps that run as usual before one is recorded: libraries choose kernels and take their workspaces at the first ones. */
const WARM_UP = 3;

/** What records a step; tests give their own. */
export interface StepRecorder {
  /** Runs a step that is not recorded, so that what recording needs is there. */
  prepare<T>(fn: () => T): T;
  /** @throws where the work cannot be recorded */
  record(fn: () => readonly Tensor[]): RecordedGraph;
}

/** The device work of a step: reads the inputs, leaves gradients in the parameters, returns what is to be read. */
export type StepWork<Inputs extends readonly Tensor[]> = (inputs: Inputs) => Tensor;

export interface StepGraphOptions {
  /** Null: every step runs as it is. */
  recorder: StepRecorder | null;
  /** The recording failed, for this reason; training goes on without. */
  onFallback?: (reason: string) => void;
}

interface Recorded<Inputs> {
  /** Where the work reads its inputs. */
  inputs: Inputs;
  /** Its outputs: what the work returned, and the gradients. */
  graph: RecordedGraph;
  /** The parameters that got a gradient. */
  learned: readonly Tensor[];
}

/**
 * Runs the device work of training steps, from the forward pass to gradients and findings, as one CUDA graph: a single launch in place of
 * thousands, which is what a step of few images spends most of its time on.
 *
 * The first steps run as usual; then one is recorded, for the shapes that its inputs have, and from there on each step copies its inputs to
 * where the recorded ones lay and launches. Inputs of other shapes run as usual, and are recorded in turn when they stay. The kernels are
 * the same, in the same order, on the same numbers, so the results are, too.
 *
 * What changes from step to step outside of the inputs must be a tensor, as the loss scale is, or stay outside: the momentum update comes
 * before, the optimiser's step after. That costs little, both being few launches, and gives the optimiser the freedom to be skipped, or its
 * state to be exchanged. The work's JavaScript runs only where the step is not a launch: it must leave nothing behind but in tensors.
 */
export class StepGraph<Inputs extends readonly Tensor[]> {
  readonly #parameters: readonly Tensor[];
  readonly #onFallback: (reason: string) => void;
  #recorder: StepRecorder | null;
  /** Shapes that the steps have had of late. */
  #shapes = "";
  #stepsOfShapes = 0;
  #recorded: Recorded<Inputs> | null = null;

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

  /** Does a step's work, whichever way; gradients are set then, and the caller sets them to null before the next step. */
  run(inputs: Inputs, work: StepWork<Inputs>): Tensor {
    if (this.#recorder === null) return work(inputs);
    const shapes = inputs.map(({ shape, dtype, device }) => `${dtype}[${shape}]@${device}`).join();
    if (shapes !== this.#shapes) this.invalidate();
    this.#shapes = shapes;
    if (this.#recorded !== null) return this.#launch(inputs, this.#recorded);
    if (this.#stepsOfShapes++ < WARM_UP) return this.#recorder.prepare(() => work(inputs));
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

  /** Forgets the recording: call it when the network became another, such as one of other frozen parameters. */
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

  #record(inputs: Inputs, work: StepWork<Inputs>, recorder: StepRecorder): Recorded<Inputs> {
    // Not in the graph's own memory, where kernels of the graph might write before these are read.
    const fixed = torch.noGrad(() => inputs.map((input) => torch.keep(input.clone()))) as unknown as Inputs;
    let learned: readonly Tensor[] = [];
    try {
      const graph = recorder.record(() => {
        // Gradients that were not there are written by each launch; others would be added to.
        for (const parameter of this.#parameters) parameter.grad = null;
        const found = work(fixed);
        learned = this.#parameters.filter(({ grad }) => grad !== null);
        // Further handles of the gradients, which stay when those of the parameters go.
        return [found, ...learned.map(({ grad }) => grad!.detach())];
      });
      return { inputs: fixed, graph, learned };
    } catch (error) {
      fixed.forEach((input) => input.dispose());
      throw error;
    }
  }

  #launch(inputs: Inputs, { inputs: fixed, graph, learned }: Recorded<Inputs>): Tensor {
    torch.noGrad(() => fixed.forEach((input, i) => input.copy_(inputs[i]!)));
    graph.replay();
    const [found, ...gradients] = graph.outputs;
    learned.forEach((parameter, i) => (parameter.grad = gradients[i]!));
    return torch.noGrad(() => found!.clone());
  }
}

/** The graph of `pretrain`'s steps; `onWarning` hears why where there is none although there should be. */
export function createStepGraph(
  moco: MoCo, { cudaGraph, device }: { cudaGraph: boolean; device: string }, onWarning: (message: string) => void = () => undefined,
): StepGraph<[x1: Tensor, x2: Tensor]> {
  return new StepGraph(moco.parameters(), {
    recorder: cudaGraph ? cudaRecorder(device) : null,
    onFallback: (reason) => onWarning(`the steps are launched kernel by kernel, not as a CUDA graph, which costs time with few images to a step: ${reason}`),
  });
}

/** Records with CUDA graphs. */
export function cudaRecorder(device: string): StepRecorder {
  return {
    prepare: (fn) => {
      const [stream, consumer] = [torch.recordingStream(device), torch.currentStream(device)];
      stream.waitFor(consumer);
      const result = torch.withStream(stream, fn);
      consumer.waitFor(stream);
      return result;
    },
    record: (fn) => torch.recordGraph(device, fn),
  };
}
