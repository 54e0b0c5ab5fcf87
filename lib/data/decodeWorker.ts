/** The thread that reads and decodes files for `Decoder`. The decoding itself runs on libuv's threads, a few images at a time. */
import { readFile } from "node:fs/promises";
import { parentPort } from "node:worker_threads";
import { decodeImage } from "./decode.js";
import type { DecodeReply, DecodeRequest } from "./decoder.js";

const port = parentPort!;
/** More than libuv has threads (four unless told otherwise), so that reading overlaps decoding. */
const atOnce = 16;
const waiting: DecodeRequest[] = [];
let running = 0;

async function run(request: DecodeRequest): Promise<void> {
  try {
    const bytes = typeof request.input === "string" ? await readFile(request.input) : request.input;
    const { data, width, height } = await decodeImage(bytes);
    // A copy, since memory that belongs to the decoding library cannot move to another thread.
    const pixels = new Uint8Array(data);
    port.postMessage({ id: request.id, data: pixels, width, height } satisfies DecodeReply, [pixels.buffer]);
  } catch (error) {
    port.postMessage({ id: request.id, reason: (error as Error).message } satisfies DecodeReply);
  }
  running--;
  next();
}

function next(): void {
  while (running < atOnce && waiting.length > 0) {
    running++;
    void run(waiting.shift()!);
  }
}

port.on("message", (request: DecodeRequest) => {
  waiting.push(request);
  next();
});
