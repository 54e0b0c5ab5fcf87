import type { MoCo } from "../../../lib/moco/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { RecordedGraph, Tensor } from "../../../lib/torch/index.js";
import type { StepRecorder } from "../../../lib/train/graphs/stepRecorder.js";

/**
 * A recorder for the CPU that keeps to a CUDA graph's rules: recording runs nothing, so it leaves the network's buffers as they were and
 * its outputs without values, and a replay does the work on the inputs' memory and writes into the memory of what recording gave. What the
 * work's JavaScript leaves behind elsewhere is spoilt, as a replay runs none.
 */
export class StubRecorder implements StepRecorder {
  readonly events: string[] = [];
  /** Thrown while recording. */
  failure: Error | null = null;
  /** Whose buffers recording must not change. */
  network: MoCo | null = null;

  prepare<T>(fn: () => T): T {
    this.events.push("as it is");
    return fn();
  }

  record(fn: () => readonly Tensor[]): RecordedGraph {
    this.events.push("record");
    const { events, failure } = this;
    const buffers = this.network!.namedBuffers().map(([, buffer]) => buffer);
    const outputs = torch.scope(() => {
      const before = buffers.map((buffer) => buffer.clone());
      const made = fn();
      torch.noGrad(() => buffers.forEach((buffer, i) => buffer.copy_(before[i]!)));
      made.forEach((each) => torch.noGrad(() => each.fill_(NaN))); // nothing has run yet
      return failure ? [] : made.map((each) => torch.keep(each));
    });
    if (failure) throw failure;
    const dispose = (): void => {
      events.push("dispose");
      outputs.forEach((each) => each.dispose());
    };
    const replay = (): void => {
      events.push("replay");
      torch.scope(() => {
        const made = fn();
        torch.noGrad(() => outputs.forEach((output, i) => {
          output.copy_(made[i]!);
          made[i]!.fill_(NaN);
        }));
      });
    };
    return { outputs, replay, dispose, [Symbol.dispose]: dispose };
  }
}
