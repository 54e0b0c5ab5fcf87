import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { CheckpointError } from "../error.js";
import { writePickle } from "../pickle/pickleWriter.js";
import { SnapshotMemory } from "./snapshot.js";
import { TensorStorages } from "../tensorStorage.js";
import { writeCheckpoint } from "../writeCheckpoint.js";
import type { TouchJob, WriteJob, WriteReply } from "./writeJob.js";

/** How a {@link BackgroundWriter} writes. */
export interface BackgroundWriterOptions {
  /** Write before `save` returns, without a second copy of the state in memory; off by default. */
  readonly synchronous?: boolean;
  /** As for `writeCheckpoint`. */
  readonly keepRequiresGrad?: boolean;
}

/** A save whose tensors have been copied. */
export interface BackgroundSave {
  /** Milliseconds that the caller was held up: the copy, and before it the wait for the save before. */
  readonly stallMs: number;
  /**
   * Settles when the file is in place, or could not be written. Who asks for it is told of a failure here; else the next `save` or `flush`
   * throws it.
   */
  readonly done: Promise<void>;
}

/**
 * Writes checkpoints while the program goes on: `save` only copies the tensors, and a thread of its own writes the file, the same bytes
 * as `writeCheckpoint`, as durably. A training step may hold the JavaScript thread meanwhile.
 *
 * The copy takes as much memory as the file; it is kept for the next save until `close`. One file is written at a time: a save
 * waits for the one before. A file that could not be written is told of once: by `done`, or else by the next `save` or `flush`.
 *
 * @example
 * const writer = new BackgroundWriter();
 * await writer.save("checkpoint_0000.pth.tar", { epoch: 1, state_dict: model.stateDict() }); // milliseconds; train on
 * await writer.flush(); // all is on the disk
 * await writer.close();
 */
export class BackgroundWriter {
  readonly #memory = new SnapshotMemory();
  #worker: Worker | null = null;
  /** The file that is being written; never rejects. */
  #writing: Promise<void> | null = null;
  #failure: CheckpointError | null = null;
  /** Ends the save that is under way: well, or for a reason. */
  #settle: ((reason: string | null, cause?: unknown) => void) | null = null;

  constructor(private readonly options: BackgroundWriterOptions = {}) {}

  /**
   * Copies the tensors and begins to write. When the promise resolves, they may change or be disposed of.
   *
   * @throws CheckpointError for a value that cannot be written, for memory that is not there, and when the save before has failed;
   * nothing is written then
   */
  async save(path: string, value: unknown): Promise<BackgroundSave> {
    const start = performance.now();
    const stallMs = (): number => performance.now() - start;
    do await this.flush(); while (this.#writing !== null); // another caller may have been quicker
    if (this.options.synchronous) {
      await writeCheckpoint(path, value, { keepRequiresGrad: this.options.keepRequiresGrad ?? false });
      return { stallMs: stallMs(), done: Promise.resolve() };
    }
    const done = this.#write(path, this.#snapshot(path, value));
    let told = false;
    this.#writing = done.catch((error: CheckpointError) => {
      if (!told) this.#failure = error;
    }).finally(() => {
      this.#writing = null;
    });
    const tell = (): Promise<void> => {
      told = true;
      return done;
    };
    return {
      stallMs: stallMs(),
      get done() {
        return tell();
      },
    };
  }

  /**
   * Takes the memory for a copy of `value` already, in the background, so that the first `save` holds the caller up no longer than the
   * following ones do. For training, best after the first step, when the optimiser has its state.
   *
   * @throws CheckpointError for a value that cannot be written, and for memory that is not there
   */
  reserve(value: unknown): void {
    if (this.options.synchronous) return;
    const { tensors } = this.#describe("a checkpoint", value);
    const blocks = this.#withMemory("a checkpoint", tensors, () => this.#memory.reserve(tensors));
    this.#startedWorker().postMessage({ touch: blocks } satisfies TouchJob);
  }

  /** Waits until what was saved is on the disk. @throws CheckpointError of a save that failed and that nobody has been told of */
  async flush(): Promise<void> {
    await this.#writing;
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) throw failure;
  }

  /** Waits for the file that is being written, ends the thread and frees the memory. Never throws: `flush` first to learn of a failure. */
  async close(): Promise<void> {
    await this.#writing;
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
    this.#memory.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #snapshot(path: string, value: unknown): WriteJob {
    const { pickle, tensors } = this.#describe(path, value);
    const storages = this.#withMemory(path, tensors, () => this.#memory.copy(tensors));
    return { path: resolve(path), pickle, storages, blocks: this.#memory.blocks };
  }

  #describe(path: string, value: unknown): { pickle: Uint8Array; tensors: TensorStorages } {
    const site = { file: path };
    const tensors = new TensorStorages(site, this.options.keepRequiresGrad ?? false);
    return { pickle: writePickle(value, site, (candidate) => tensors.describe(candidate)), tensors };
  }

  #withMemory<T>(path: string, tensors: TensorStorages, use: () => T): T {
    try {
      return use();
    } catch (error) {
      const bytes = tensors.storages.reduce((total, { reference }) => total + reference.byteLength, 0);
      const reason = `its ${bytes} bytes of tensors cannot be copied: ${(error as Error).message}; save synchronously, which needs no copy`;
      throw new CheckpointError({ file: path }, null, reason, { cause: error });
    }
  }

  #write(path: string, job: WriteJob): Promise<void> {
    const worker = this.#startedWorker();
    worker.ref(); // the process stays until the file is complete
    return new Promise((done, failed) => {
      this.#settle = (reason, cause) => {
        this.#settle = null;
        worker.unref();
        if (reason === null) done();
        else failed(new CheckpointError({ file: path }, null, reason, { cause }));
      };
      worker.postMessage(job);
    });
  }

  #startedWorker(): Worker {
    if (this.#worker !== null) return this.#worker;
    const worker = new Worker(new URL("./writeWorker.js", import.meta.url), { name: "moco checkpoint writer" });
    const lost = (how: string, cause?: unknown): void => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      this.#settle?.(`it was not written: the thread that writes checkpoints ${how}; what was there before is untouched`, cause);
    };
    worker.on("message", ({ failure }: WriteReply) => {
      if (failure === null) this.#settle?.(null);
      else this.#settle?.(failure.reason, Object.assign(new Error(failure.reason), { code: failure.code }));
    });
    worker.on("error", (error) => lost(`failed: ${(error as Error).message}`, error));
    worker.on("exit", (code) => lost(`ended with code ${code}`));
    worker.unref(); // only a file to be written keeps the process alive
    this.#worker = worker;
    return worker;
  }
}
