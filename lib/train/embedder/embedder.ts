import { Worker } from "node:worker_threads";
import { FeatureError, notFinite, type FeatureLayer } from "../features.js";
import { requireOneOf, requireRange, requireWhole, type Precision } from "../options.js";
import type { EmbedBatch, EmbedderFacts, EmbedReply, EmbedSettings, ImageFailure } from "./embedProtocol.js";
import { EmbedQueue, type EmbedCall, type EmbedOutcome, type QueuedImage } from "./embedQueue.js";
import { EmbedderClosedError, EmbedError, EmbedQueueFullError } from "./errors.js";
import { fromSent } from "./sentError.js";

/** Batches, queue and encoder of an {@link Embedder}. */
export interface EmbedderOptions {
  /** Which features. Default: the class token of a ViT, the pooled features of a ResNet; these are what is compared, searched and classified. */
  layer?: FeatureLayer;
  /** Where the network runs. Default: the first GPU, else the CPU. */
  device?: string;
  /** Of the forward pass; vectors are float32 in any. Default `"fp32"`. */
  precision?: Precision;
  /** Most images in one pass through the network. Default 32. */
  batchSize?: number;
  /** CPU threads that decode, and that one operator uses. Default: one for each core. */
  threads?: number;
  /** Height and width of the network's input. Default: what the encoder was trained on, 224 where nothing tells. */
  imageSize?: number | readonly [number, number];
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number;
  /** Most images that wait; a call that would exceed it is refused. Default 4096. */
  queueLimit?: number;
  /** How long an image waits for others to share its batch, in milliseconds. Default 2. */
  maxWaitMs?: number;
}

/** Of one call of an {@link Embedder}. */
export interface EmbedOptions {
  /** Takes the call back: it is rejected with the signal's reason, and what has not begun is left undone. */
  signal?: AbortSignal;
  /** What a call does that the queue has no room for: `"throw"` (default), or `"wait"` for its turn, with any number of images. */
  whenFull?: "throw" | "wait";
}

/** Batches in the thread at a time: one in the network, and one that is decoded meanwhile. */
const AT_ONCE = 2;

/**
 * A trained encoder that turns images into feature vectors, off the event loop: a thread of its own loads the checkpoint and runs the network,
 * native threads decode. Calls may come at any time, from any number of callers: their images share batches, large calls do not hold up small
 * ones, and each caller gets its vectors in its order.
 *
 * An image's vector does not depend on the images that share its batch, but for the last bits of float32 (1e-6 of its length; other batch
 * sizes sum in another order). With equal batches it is that of `FeatureExtractor`, which is the way to use an encoder in memory.
 *
 * A thread that waits does not keep the process alive.
 *
 * @example
 * await using embedder = await Embedder.load("runs/cats");
 * const [a, b] = await embedder.embed(["a.jpg", await readFile("b.jpg")]); // Float32Array each
 */
export class Embedder {
  readonly batchSize: number;
  readonly queueLimit: number;
  readonly #maxWaitMs: number;
  readonly #worker: Worker;
  readonly #facts: EmbedderFacts;
  readonly #queue = new EmbedQueue();
  /** Calls that have not been settled. */
  readonly #calls = new Set<EmbedCall>();
  readonly #inThread = new Map<number, QueuedImage[]>();
  #nextId = 0;
  #timer: NodeJS.Timeout | null = null;
  #closed: EmbedderClosedError | null = null;

  private constructor(worker: Worker, facts: EmbedderFacts, { batchSize, queueLimit, maxWaitMs }: Required<Pick<EmbedderOptions, "batchSize" | "queueLimit" | "maxWaitMs">>) {
    this.#worker = worker;
    this.#facts = facts;
    this.batchSize = batchSize;
    this.queueLimit = queueLimit;
    this.#maxWaitMs = maxWaitMs;
    worker.on("message", (reply: EmbedReply) => this.#receive(reply));
    const lost = (how: string, cause?: unknown): void =>
      this.#close(new EmbedderClosedError(`the embedding thread ${how}; load the embedder again`, { cause }));
    worker.on("error", (error) => lost(`failed: ${(error as Error).message}`, error));
    worker.on("exit", (code) => lost(`ended with code ${code}`));
    worker.unref();
  }

  /**
   * Reads the encoder out of a file of any kind that `moco convert` knows: of pre-training (the base encoder; a run's folder stands for its
   * furthest checkpoint), of a linear probe, of DeiT, timm, torchvision or Hugging Face (a folder with config.json), or a bare state dict.
   *
   * @throws CheckpointNotFoundError, CheckpointError, ConvertError, ModelConfigError or StateDictError that say what does not fit; FeatureError
   *   for a layer that the checkpoint does not have; OptionError for an option outside its range, such as a device that is not there
   */
  static async load(path: string, options: EmbedderOptions = {}): Promise<Embedder> {
    const { batchSize = 32, queueLimit = 4096, maxWaitMs = 2, precision = "fp32", layer, device, threads, imageSize, numHeads } = options;
    requireWhole("batchSize", batchSize, 1);
    requireWhole("queueLimit", queueLimit, 1);
    requireRange("maxWaitMs", maxWaitMs, 0, Number.MAX_VALUE);
    if (threads !== undefined) requireWhole("threads", threads, 1);
    const workerData: EmbedSettings = { path, layer, device, precision, threads, imageSize, numHeads };
    const worker = new Worker(new URL("./embedWorker.js", import.meta.url), { name: "moco embedder", workerData });
    // These listeners stay: what they do after the first answer has no effect.
    const facts = await new Promise<EmbedderFacts>((resolve, reject) => {
      worker.once("error", reject);
      worker.once("exit", (code) => reject(new EmbedderClosedError(`the embedding thread ended with code ${code} while it loaded ${path}`)));
      worker.once("message", (reply: EmbedReply) => {
        if ("facts" in reply) resolve(reply.facts);
        else reject("loadFailed" in reply ? fromSent(reply.loadFailed) : new TypeError("the embedding thread answered before it was asked"));
      });
    }).catch(async (error: unknown) => {
      await worker.terminate();
      throw error;
    });
    return new Embedder(worker, facts, { batchSize, queueLimit, maxWaitMs });
  }

  /** The checkpoint file. */
  get file(): string {
    return this.#facts.file;
  }

  /** What is known about the encoder. */
  get spec(): EmbedderFacts["spec"] {
    return this.#facts.spec;
  }

  get layer(): FeatureLayer {
    return this.#facts.layer;
  }

  /** Length of a vector. */
  get dim(): number {
    return this.#facts.dim;
  }

  /** Height and width of the network's input in pixels. */
  get imageSize(): readonly [number, number] {
    return this.#facts.imageSize;
  }

  get device(): string {
    return this.#facts.device;
  }

  /** Images that wait for the network. */
  get waiting(): number {
    return this.#queue.images;
  }

  /** Whether calls are taken: until it is disposed of, or its thread ends. */
  get isOpen(): boolean {
    return this.#closed === null;
  }

  /**
   * Feature vectors of image files (paths or their bytes), in their order. Images are resized and cropped as in evaluation: shorter side to
   * 8/7 of the input size, then the centre. Bytes are only read, and must not change until the promise settles.
   *
   * @throws EmbedError that names the first image which cannot be read; FeatureError for one whose features are not finite;
   *   EmbedQueueFullError; EmbedderClosedError; the signal's reason
   */
  async embed(images: readonly (string | Uint8Array)[], options: EmbedOptions = {}): Promise<Float32Array<ArrayBuffer>[]> {
    const outcomes = await this.embedSettled(images, options);
    return outcomes.map((outcome) => {
      if (outcome.status === "rejected") throw outcome.reason;
      return outcome.value;
    });
  }

  /**
   * As {@link embed}, for callers who want what can be had: each image's vector, or its EmbedError or FeatureError.
   *
   * @throws EmbedQueueFullError; EmbedderClosedError; the signal's reason
   */
  async embedSettled(
    images: readonly (string | Uint8Array)[], { signal, whenFull = "throw" }: EmbedOptions = {},
  ): Promise<EmbedOutcome[]> {
    requireOneOf("whenFull", whenFull, ["throw", "wait"]);
    images.forEach((image, index) => {
      if (typeof image === "string" || image instanceof Uint8Array || isBytes(image)) return;
      throw new TypeError(`image ${index} is ${image === null ? "null" : typeof image}; give a path or a file's bytes (Uint8Array, Buffer)`);
    });
    if (this.#closed !== null) throw this.#closed;
    signal?.throwIfAborted();
    if (images.length === 0) return [];
    const counts = whenFull === "throw";
    if (counts && this.#queue.counted + images.length > this.queueLimit) {
      throw new EmbedQueueFullError(images.length, this.#queue.counted, this.queueLimit);
    }
    let call: EmbedCall | undefined;
    const abort = (): void => this.#settle(call!, () => call!.reject(signal!.reason));
    try {
      return await new Promise<EmbedOutcome[]>((resolve, reject) => {
        call = { images: [...images], outcomes: [], counts, since: performance.now(), next: 0, left: images.length, resolve, reject };
        if (this.#calls.size === 0) this.#worker.ref(); // someone waits for it now
        this.#calls.add(call);
        signal?.addEventListener("abort", abort);
        this.#queue.add(call);
        this.#send();
      });
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Rejects the calls that wait with an EmbedderClosedError, ends the thread and frees the encoder. Safe to call twice. */
  async dispose(): Promise<void> {
    this.#close(new EmbedderClosedError("the embedder has been disposed of; load another"));
    await this.#worker.terminate();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  [Symbol.dispose](): void {
    void this.dispose();
  }

  /** Hands batches over as long as the thread takes them: full ones at once, others when their oldest image has waited long enough. */
  #send(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    while (this.#inThread.size < AT_ONCE && this.#queue.images > 0) {
      const wait = this.#queue.since + this.#maxWaitMs - performance.now();
      if (wait > 0 && this.#queue.images < this.batchSize) {
        this.#timer = setTimeout(() => this.#send(), wait);
        return;
      }
      const batch = this.#queue.take(this.batchSize);
      const id = this.#nextId++;
      this.#inThread.set(id, batch);
      // A copy that the thread gets as its own: the caller's bytes, often a part of a larger buffer, stay where they are.
      const images = batch.map(({ call, index }) => ownCopy(call.images[index]!));
      const transfer = images.flatMap((image) => (typeof image === "string" ? [] : [image.buffer]));
      this.#worker.postMessage({ id, images } satisfies EmbedBatch, transfer);
    }
  }

  #receive(reply: EmbedReply): void {
    if (!("id" in reply)) return;
    const batch = this.#inThread.get(reply.id) ?? [];
    this.#inThread.delete(reply.id);
    for (const [row, { call, index }] of batch.entries()) {
      const image = call.images[index]!;
      const name = typeof image === "string" ? image : `image ${index}`;
      if ("failed" in reply) {
        const reason = `its batch of ${batch.length} could not be computed: ${reply.failed}; try a smaller batchSize`;
        call.outcomes[index] = { status: "rejected", reason: new EmbedError(name, index, reason) };
      } else {
        const failure = reply.failures[row];
        call.outcomes[index] = failure
          ? { status: "rejected", reason: errorOf(failure, name, index) }
          : { status: "fulfilled", value: reply.vectors.slice(row * this.dim, (row + 1) * this.dim) };
      }
      if (--call.left === 0) this.#settle(call, () => call.resolve(call.outcomes));
    }
    this.#send();
  }

  #settle(call: EmbedCall, settle: () => void): void {
    if (!this.#calls.delete(call)) return;
    this.#queue.remove(call);
    if (this.#calls.size === 0) this.#worker.unref();
    settle();
  }

  #close(reason: EmbedderClosedError): void {
    if (this.#closed !== null) return;
    this.#closed = reason;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#inThread.clear();
    for (const call of [...this.#calls]) this.#settle(call, () => call.reject(reason));
  }
}

function errorOf(failure: ImageFailure, name: string, index: number): EmbedError | FeatureError {
  return failure === "not finite" ? new FeatureError(notFinite(name)) : new EmbedError(name, index, failure.unreadable);
}

/** Whether it is a Uint8Array of another realm, such as that of a `vm` context. */
function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === "[object Uint8Array]";
}

function ownCopy(image: string | Uint8Array): string | Uint8Array<ArrayBuffer> {
  return typeof image === "string" ? image : new Uint8Array(image);
}
