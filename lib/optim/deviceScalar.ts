import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/**
 * A number in a device's memory, in float32, that kernels read when they run. A step that is recorded as a CUDA graph finds the number of its own
 * time there; one of JavaScript would stay what it was when the step was recorded.
 */
export class DeviceScalar implements Disposable {
  /** [] float32 */
  readonly tensor: Tensor;
  #value: number;

  constructor(value: number, device: string) {
    this.#value = value;
    this.tensor = torch.keep(torch.full([], value, { dtype: "float32", device }));
  }

  /** The number that was set, before it was rounded. */
  get value(): number {
    return this.#value;
  }

  /** Writes a number for the work that the device is given from here on. Nothing waits. */
  set(value: number): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    torch.noGrad(() => this.tensor.fill_(value));
  }

  [Symbol.dispose](): void {
    this.tensor.dispose();
  }
}
