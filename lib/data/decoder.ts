import { Worker } from "node:worker_threads";
import type { DecodedImage } from "./decodedImage.js";

/** A file to read, or its bytes. */
export interface DecodeRequest {
  id: number;
  input: string | Uint8Array;
}

export type DecodeReply = { id: number; reason: string } | ({ id: number } & DecodedImage);

interface Pending {
  resolve(image: DecodedImage): void;
  reject(error: Error): void;
}

/**
 * Reads and decodes files on a thread of its own.
 *
 * A training step holds the JavaScript thread for as long as it lasts; files that were asked for before it are decoded after it only
 * because another thread takes every step from opening the file to handing over its pixels.
 */
export class Decoder {
  #worker: Worker | null = null;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;

  /**
   * @param input a path, or the bytes of a file in any supported format
   * @throws an `Error` that says why the file cannot be read or decoded.
   */
  decode(input: string | Uint8Array): Promise<DecodedImage> {
    const worker = (this.#worker ??= this.#start());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      // Only work keeps the process alive, not the thread.
      if (this.#pending.size === 1) worker.ref();
      worker.postMessage({ id, input } satisfies DecodeRequest);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL("./decodeWorker.js", import.meta.url), { name: "moco image decoder" });
    worker.on("message", (reply: DecodeReply) => {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if (this.#pending.size === 0) worker.unref();
      if ("reason" in reply) pending?.reject(new Error(reply.reason));
      else pending?.resolve({ data: reply.data, width: reply.width, height: reply.height });
    });
    const lost = (error: Error): void => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
    };
    worker.on("error", (error) => lost(error as Error));
    worker.on("exit", () => lost(new Error("the decoding thread ended")));
    return worker;
  }

  /** Ends the thread; what it had not decoded is rejected. A later `decode` starts another. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }
}

let shared: Decoder | undefined;

/** The decoder that all loaders of this thread share. */
export function sharedDecoder(): Decoder {
  return (shared ??= new Decoder());
}
