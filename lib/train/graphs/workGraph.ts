import * as torch from "../../torch/index.js";
import type { RecordedGraph, Tensor } from "../../torch/index.js";
import type { StepRecorder } from "./stepRecorder.js";

/** Runs that are as usual before one is recorded: libraries choose kernels and take their workspaces at the first ones. */
export const WARM_UP_STEPS = 3;

/** Device work of a step: reads the inputs, and returns what is read later. */
export type StepWork = (inputs: readonly Tensor[]) => readonly Tensor[];

interface Recorded {
  /** Where the work reads its inputs. */
  inputs: readonly Tensor[];
  graph: RecordedGraph;
}

/**
 * A piece of device work that is done again and again, as one CUDA graph: a single launch in place of hundreds or thousands.
 *
 * The first runs are as usual; then one is recorded, and from there on each run copies its inputs to where the recorded ones lay and launches. The
 * kernels are the same, in the same order, on the same numbers, so the results are, too. What changes from run to run must be an input or lie in
 * memory that the work reads each time (a loss scale, a learning rate): numbers of JavaScript stay as they were. The work's JavaScript runs only
 * where the work is not launched: what it learns, it returns.
 */
export class WorkGraph implements Disposable {
  #recorder: StepRecorder | null;
  #conditions: readonly unknown[] = [];
  #runs = 0;
  #recorded: Recorded | null = null;

  /**
   * @param recorder null: the work always runs as it is
   * @param onFallback told once, where the work cannot be recorded and runs as it is from then on
   */
  constructor(recorder: StepRecorder | null, private readonly onFallback: (reason: string) => void) {
    this.#recorder = recorder;
  }

  /** Whether there is nothing to record with, so that `run` is the work itself. */
  get isOff(): boolean {
    return this.#recorder === null;
  }

  /** The graph that runs are launches of, or null. */
  get recording(): object | null {
    return this.#recorded;
  }

  /**
   * Does the work, whichever way.
   *
   * @param conditions what a recording holds for, compared one by one (`Object.is`): when they change, the recording is forgotten
   * @returns what the work returns; of a launch these tensors are the graph's own, which the next one writes anew
   */
  run(conditions: readonly unknown[], inputs: readonly Tensor[], work: StepWork): readonly Tensor[] {
    if (this.#recorder === null) return work(inputs);
    if (!areSame(conditions, this.#conditions)) this.invalidate();
    this.#conditions = conditions;
    if (this.#recorded === null) {
      if (this.#runs++ < WARM_UP_STEPS) return this.runAsItIs(inputs, work);
      try {
        this.#recorded = record(inputs, work, this.#recorder);
      } catch (error) {
        this.#recorder = null;
        this.onFallback((error as Error).message.split("\n").join(" "));
        return work(inputs);
      }
    }
    return launch(inputs, this.#recorded);
  }

  /** Does the work where it cannot be recorded yet, for a reason that lies elsewhere. */
  runAsItIs(inputs: readonly Tensor[], work: StepWork): readonly Tensor[] {
    return this.#recorder === null ? work(inputs) : this.#recorder.prepare(() => work(inputs));
  }

  /** Forgets the recording, and frees its memory. */
  invalidate(): void {
    this.#runs = 0;
    if (this.#recorded === null) return;
    const { inputs, graph } = this.#recorded;
    this.#recorded = null;
    graph.dispose();
    inputs.forEach((input) => input.dispose());
  }

  [Symbol.dispose](): void {
    this.invalidate();
  }
}

function record(inputs: readonly Tensor[], work: StepWork, recorder: StepRecorder): Recorded {
  // Not in the graph's own memory, where kernels of the graph might write before these are read.
  const fixed = torch.noGrad(() => inputs.map((input) => torch.keep(input.clone())));
  try {
    return { inputs: fixed, graph: recorder.record(() => work(fixed)) };
  } catch (error) {
    fixed.forEach((input) => input.dispose());
    throw error;
  }
}

function launch(inputs: readonly Tensor[], { inputs: fixed, graph }: Recorded): readonly Tensor[] {
  torch.noGrad(() => fixed.forEach((input, i) => input.copy_(inputs[i]!)));
  graph.replay();
  return graph.outputs;
}

function areSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((each, i) => Object.is(each, b[i]));
}
