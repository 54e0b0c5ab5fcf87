import { currentStream, newStream, scope, StreamEvent, withStream, type Stream, type Tensor } from "../../torch/index.js";
import type { PixelParameters } from "./devicePlan.js";
import { DataOptionError } from "../errors.js";
import type { Sample } from "../loading/epochSamples.js";
import { prefetch } from "../loading/prefetch.js";

/** What a device does with a batch: augment crops (`DeviceAugmentation`), or nothing ({@link finished}). */
export interface DeviceWork {
  /** With its index, as tensors name theirs. */
  readonly device: string;
  /** Makes a view of what was copied to the device; runs on the current stream, without waiting for it. */
  apply(copied: Tensor, parameters: readonly PixelParameters[]): Tensor;
  dispose(): void;
}

/** For views that come finished from the CPU: they are copied, no more. */
export function finished(device: string): DeviceWork {
  return { device: currentStream(device).device, apply: (copied) => copied, dispose: () => undefined };
}

/** A batch's views on the CPU, and what is to happen to them. */
export interface HostBatch {
  /** uint8 [N, 3, H, W] of crops, float32 of finished views; pinned, so that copying to a device does not hold the thread. */
  views: readonly Tensor[];
  /** One for each row of each view. */
  parameters: readonly (readonly PixelParameters[])[];
  /** Row by row. */
  samples: readonly Sample[];
  step: number;
  /** Called when the pixels have been copied: from then on their memory may be written again. */
  [Symbol.dispose](): void;
}

/** Finished views on the device. */
export interface DeviceBatch {
  /** float32 [N, 3, H, W], normalised; the consumer disposes of them. */
  views: readonly Tensor[];
  samples: readonly Sample[];
  step: number;
  /** Disposes of the views. */
  [Symbol.dispose](): void;
}

/**
 * Brings batches to a device and augments them there, in a stream of their own, while the consumer's step for the batch before runs there. At most one batch
 * waits on the device besides the consumer's. On the CPU everything happens in turn.
 *
 * The host batches are disposed of here in any case, and never before the device has read them.
 *
 * @param consumer the stream that works with the views: it waits for each batch it is handed, and their memory goes to no other tensor
 *   before its work is done. Default: the one that is current now.
 * @throws {DataOptionError} for a consumer on another device
 * @throws what `batches` or the augmentation throws, after the batches before it
 * @example for await (using batch of onDevice(hostBatches, new DeviceAugmentation("cuda"))) step(batch.views);
 */
export async function* onDevice(
  batches: AsyncIterable<HostBatch>, work: DeviceWork, consumer: Stream = currentStream(work.device),
): AsyncGenerator<DeviceBatch, void, undefined> {
  if (consumer.device !== work.device) {
    const wanted = `${work.device}, the augmentation's device`;
    throw new DataOptionError(`the consumer's stream is on ${consumer.device}; give one of ${wanted}`);
  }
  const stager = new Stager(work);
  const drop = ({ views, done }: Staged): void => {
    views.forEach((view) => view.dispose());
    done.dispose();
  };
  const synchronous = stager.stream.handle === null;
  const staged = synchronous ? stager.all(batches) : prefetch(stager.all(batches), 1, drop);
  for await (const batch of staged) {
    // A batch that has arrived is begun before the consumer's step holds this thread. Where the step is queued on a device, it goes first:
    // the device would idle meanwhile.
    if (synchronous) await new Promise(setImmediate);
    const { views, done, samples, step } = batch;
    consumer.waitFor(done);
    views.forEach((view) => view.recordStream(consumer));
    done.dispose();
    yield { views, samples, step, [Symbol.dispose]: () => views.forEach((view) => view.dispose()) };
  }
}

interface Staged {
  views: readonly Tensor[];
  /** Comes when the views are there. */
  done: StreamEvent;
  samples: readonly Sample[];
  step: number;
}

/** Gives a stream the copies and kernels of batches. */
class Stager {
  readonly stream: Stream;
  readonly #work: DeviceWork;
  /** Batches that the device may still read. */
  #copying: { copied: StreamEvent; host: HostBatch }[] = [];

  constructor(work: DeviceWork) {
    this.#work = work;
    this.stream = newStream(work.device);
  }

  async *all(batches: AsyncIterable<HostBatch>): AsyncGenerator<Staged, void, undefined> {
    try {
      for await (const host of batches) {
        const staged = this.#stage(host);
        this.#retire((copied) => copied.query());
        yield staged;
      }
    } finally {
      this.stream.synchronize();
      this.#retire(() => true);
    }
  }

  #stage(host: HostBatch): Staged {
    const { device } = this.#work;
    const { parameters, samples, step } = host;
    return scope(() => withStream(this.stream, () => {
      const copied = new StreamEvent(device);
      this.#copying.push({ copied, host });
      const crops = host.views.map((view) => view.to({ device, nonBlocking: true }));
      copied.record(this.stream);
      const views = crops.map((each, view) => this.#work.apply(each, parameters[view]!));
      return { views, done: this.stream.record(), samples, step };
    }));
  }

  #retire(mayBeWritten: (copied: StreamEvent) => boolean): void {
    this.#copying = this.#copying.filter(({ copied, host }) => {
      if (!mayBeWritten(copied)) return true;
      copied.dispose();
      host[Symbol.dispose]();
      return false;
    });
  }
}
