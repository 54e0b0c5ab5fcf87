import { currentStream, newStream, scope, StreamEvent, withStream, type Stream, type Tensor } from "../../torch/index.js";
import type { DeviceAugmentation } from "./deviceAugmentation.js";
import type { PixelParameters } from "./devicePlan.js";
import { DataOptionError } from "../errors.js";
import type { Sample } from "../loading/epochSamples.js";
import { prefetch } from "../loading/prefetch.js";

/** Cropped pixels of a batch's views on the CPU, and what is to happen to them. */
export interface HostBatch {
  /** uint8 [N, 3, H, W]; pinned, so that copying to a device does not hold the thread. */
  views: readonly Tensor[];
  /** One for each row of each view. */
  parameters: readonly (readonly PixelParameters[])[];
  /** Row by row. */
  samples: readonly Sample[];
  step: number;
  /** Called when the pixels have been copied: from then on their memory may be written again. */
  [Symbol.dispose](): void;
}

/** Augmented views on the device. */
export interface DeviceBatch {
  /** float32 [N, 3, H, W], normalised; the consumer disposes of them. */
  views: readonly Tensor[];
  samples: readonly Sample[];
  step: number;
  /** Disposes of the views. */
  [Symbol.dispose](): void;
}

/**
 * Augments batches on a device, in a stream of their own, while the consumer's step for the batch before runs there. At most one batch
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
  batches: AsyncIterable<HostBatch>, augmentation: DeviceAugmentation, consumer: Stream = currentStream(augmentation.device),
): AsyncGenerator<DeviceBatch, void, undefined> {
  if (consumer.device !== augmentation.device) {
    const wanted = `${augmentation.device}, the augmentation's device`;
    throw new DataOptionError(`the consumer's stream is on ${consumer.device}; give one of ${wanted}`);
  }
  const stager = new Stager(augmentation);
  const drop = ({ views, done }: Staged): void => {
    views.forEach((view) => view.dispose());
    done.dispose();
  };
  const staged = stager.stream.handle === null ? stager.all(batches) : prefetch(stager.all(batches), 1, drop);
  for await (const batch of staged) {
    // A batch that has arrived is begun before the consumer's step holds this thread.
    await new Promise(setImmediate);
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
  readonly #augmentation: DeviceAugmentation;
  /** Batches that the device may still read. */
  #copying: { copied: StreamEvent; host: HostBatch }[] = [];

  constructor(augmentation: DeviceAugmentation) {
    this.#augmentation = augmentation;
    this.stream = newStream(augmentation.device);
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
    const { device } = this.#augmentation;
    const { parameters, samples, step } = host;
    return scope(() => withStream(this.stream, () => {
      const copied = new StreamEvent(device);
      this.#copying.push({ copied, host });
      const crops = host.views.map((view) => view.to({ device, nonBlocking: true }));
      copied.record(this.stream);
      const views = crops.map((each, view) => this.#augmentation.apply(each, parameters[view]!));
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
