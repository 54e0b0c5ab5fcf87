import { native } from "../native.js";
import { parseDevice } from "./device.js";
import { DeviceUnavailableError } from "./errors.js";
import { refusePromise } from "./synchronous.js";

/** Devices that finish each operator before the call returns: they have no queue of work. */
const synchronousDevices: readonly string[] = ["cpu", "meta"];

/**
 * A queue of work on a device: operators called while it is current (see {@link withStream}) run on it in order, at the same time as what
 * other streams hold. Devices that finish each operator before the call returns, such as the CPU, have one stream, always done.
 *
 * Streams belong to the process and need no disposal. The current stream is the thread's own: worker threads do not see each other's.
 */
export class Stream {
  /** The device's name with its index: `"cuda:0"`; `"cpu"` has none. */
  readonly device: string;
  /** Number in the addon's table, or null on a synchronous device. Internal. */
  readonly handle: number | null;

  /** Wraps what the addon gave. Internal: use {@link newStream} and {@link currentStream}. */
  constructor(device: string, handle: number | null) {
    this.device = device;
    this.handle = handle;
  }

  /** Whether everything it was given is done. */
  query(): boolean {
    return this.handle === null || native.queryStream(this.handle);
  }

  /** Holds the JavaScript thread until everything it was given is done. */
  synchronize(): void {
    if (this.handle !== null) native.synchronizeStream(this.handle);
  }

  /** An event that comes when everything the stream was given so far is done; to be disposed of. */
  record(): StreamEvent {
    const event = new StreamEvent(this.device);
    event.record(this);
    return event;
  }

  /**
   * What the stream is given from now on starts after the event, or after everything that another stream was given so far. Does not hold
   * the JavaScript thread.
   */
  waitFor(what: StreamEvent | Stream): void {
    if (what instanceof Stream) {
      using event = what.record();
      this.waitFor(event);
    } else {
      const event = what.liveHandle("waitFor");
      requireSameType("waitFor", what.device, this.device);
      if (this.handle !== null && event !== null) native.waitForEvent(this.handle, event);
    }
  }

  /** Whether both stand for the same queue. */
  equals(other: Stream): boolean {
    return this.handle === other.handle && this.device === other.device;
  }
}

/**
 * A mark in a stream, for other streams and the JavaScript thread to wait for. Not recorded, or on a synchronous device, it has always
 * come.
 *
 * @example
 * using copied = stream.record();
 * torch.currentStream("cuda").waitFor(copied);
 */
export class StreamEvent {
  /** The device's name as given. */
  readonly device: string;
  #handle: number | null;
  #disposed = false;

  /** @throws {DeviceUnavailableError} where libtorch has no such device; TypeError for what is not a device's name. */
  constructor(device: string) {
    this.device = device;
    this.#handle = isSynchronous(device) ? null : native.createEvent(device);
  }

  /** Number in the addon's table, null on a synchronous device, or an error when it was disposed of. Internal. */
  liveHandle(method: string): number | null {
    if (this.#disposed) throw new Error(`${method}: the event was disposed of; record another with stream.record()`);
    return this.#handle;
  }

  /** Marks everything that the stream was given so far; an earlier mark is forgotten, except by those who wait for it already. */
  record(stream: Stream): void {
    const handle = this.liveHandle("record");
    requireSameType("record", this.device, stream.device);
    if (handle !== null && stream.handle !== null) native.recordEvent(handle, stream.handle);
  }

  /** Whether it has come. */
  query(): boolean {
    const handle = this.liveHandle("query");
    return handle === null || native.queryEvent(handle);
  }

  /** Holds the JavaScript thread until it has come. */
  synchronize(): void {
    const handle = this.liveHandle("synchronize");
    if (handle !== null) native.synchronizeEvent(handle);
  }

  /** Gives the event back. Those who wait for it go on waiting. Calling it again does nothing. */
  dispose(): void {
    if (!this.#disposed && this.#handle !== null) native.destroyEvent(this.#handle);
    this.#disposed = true;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * A stream of its own for a device, from libtorch's pool (on CUDA 32 for each priority; then they repeat).
 *
 * @param options.highPriority its work goes first where the device has room for some of it only
 * @throws {DeviceUnavailableError} where libtorch has no such device; TypeError for what is not a device's name.
 */
export function newStream(device: string, options: { highPriority?: boolean } = {}): Stream {
  return isSynchronous(device) ? new Stream(device, null) : wrap(native.pooledStream(device, options.highPriority ?? false));
}

/**
 * The stream that operators on the device run on, in this thread.
 *
 * @throws {DeviceUnavailableError} where libtorch has no such device; TypeError for what is not a device's name.
 */
export function currentStream(device: string): Stream {
  return isSynchronous(device) ? new Stream(device, null) : wrap(native.currentStream(device));
}

/**
 * Runs `fn` with `stream` current on its device, and makes the former one current again, also when `fn` throws.
 *
 * Memory that `fn` takes belongs to the stream: a tensor that another stream reads is disposed of only after `tensor.recordStream(other)`,
 * or when that stream is done.
 *
 * @throws Error when `fn` returns a promise: the thread's current stream would change under other code.
 * @example const moved = torch.withStream(copies, () => batch.to("cuda", { nonBlocking: true }));
 */
export function withStream<T>(stream: Stream, fn: () => T): T {
  if (stream.handle === null) return refusePromise(fn(), promiseAdvice);
  const former = native.exchangeStream(stream.handle);
  try {
    return refusePromise(fn(), promiseAdvice);
  } finally {
    native.exchangeStream(former);
  }
}

const promiseAdvice = "withStream: the function returned a Promise, and other code would run on the stream; await outside it.";

function wrap(handle: number): Stream {
  return new Stream(native.streamDevice(handle), handle);
}

/** Whether a device has no streams; the device must be one that libtorch has here. */
function isSynchronous(device: string): boolean {
  const { index } = parseDevice(device);
  const type = typeOf(device);
  if (synchronousDevices.includes(type)) return true;
  const count = native.deviceCount(device);
  if (index >= count || count === 0) throw new DeviceUnavailableError(device, type, count);
  return false;
}

const typeOf = (device: string): string => device.split(":")[0]!;

function requireSameType(method: string, event: string, stream: string): void {
  if (typeOf(event) !== typeOf(stream)) {
    throw new TypeError(`${method}: the event is of ${event}, the stream of ${stream}; both must be of one type of device`);
  }
}
