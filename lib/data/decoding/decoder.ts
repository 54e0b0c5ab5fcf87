import { Worker } from "node:worker_threads";
import type { DecodedImage } from "./decodedImage.js";
import type { FileRange } from "../imageInput.js";

/** What has to be read and decoded. */
export type EncodedImage = string | FileRange | Uint8Array;

export interface DecodeRequest {
  id: number;
  input: EncodedImage;
  /** Turn the picture upright as its EXIF orientation says. */
  exif: boolean;
}

export type DecodeReply = { id: number; reason: string } | ({ id: number } & DecodedImage);

/** Decoded images that may wait for a busy JavaScript thread, in bytes, and the least number of images under way. */
const waitingBytes = 512 * 2 ** 20;
const leastAtOnce = 16;

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
  readonly #waiting: DecodeRequest[] = [];
  #sent = 0;
  #imageBytes = 0;
  #nextId = 0;

  /**
   * @param input a path, a part of a file, or the bytes of a file, in any supported format
   * @param exif turn the picture upright as its EXIF orientation says
   * @throws an `Error` that says why the file cannot be read or decoded.
   */
  decode(input: EncodedImage, exif = false): Promise<DecodedImage> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#waiting.push({ id, input, exif });
      this.#send();
    });
  }

  #send(): void {
    const most = Math.max(leastAtOnce, Math.floor(waitingBytes / Math.max(this.#imageBytes, 1)));
    while (this.#sent < most && this.#waiting.length > 0) {
      const worker = (this.#worker ??= this.#start());
      // Only work keeps the process alive, not the thread.
      if (this.#sent++ === 0) worker.ref();
      worker.postMessage(this.#waiting.shift()!);
    }
  }

  #start(): Worker {
    const worker = new Worker(new URL("./decodeWorker.js", import.meta.url), { name: "moco image decoder" });
    worker.on("message", (reply: DecodeReply) => {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if (--this.#sent === 0) worker.unref();
      if ("reason" in reply) {
        pending?.reject(new Error(reply.reason));
      } else {
        const { data, width, height } = reply;
        this.#imageBytes = this.#imageBytes === 0 ? data.length : 0.9 * this.#imageBytes + 0.1 * data.length;
        pending?.resolve({ data, width, height });
      }
      this.#send();
    });
    const lost = (error: Error): void => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      this.#sent = 0;
      this.#waiting.length = 0;
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
