/** The thread that reads and decodes files for `Decoder`. The decoding itself runs on libuv's threads, a few images at a time. */
import { open, readFile } from "node:fs/promises";
import { parentPort } from "node:worker_threads";
import { decodeWithSharp } from "./decode.js";
import { isFileRange } from "../imageInput.js";
import type { DecodeReply, DecodeRequest, EncodedImage } from "./decoder.js";

const port = parentPort!;
/** More than libuv has threads (four unless told otherwise), so that reading overlaps decoding. */
const atOnce = 16;
const waiting: DecodeRequest[] = [];
let running = 0;

async function bytesOf(input: EncodedImage): Promise<Uint8Array> {
  if (typeof input === "string") return readFile(input);
  if (!isFileRange(input)) return input;
  const file = await open(input.path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(input.length), 0, input.length, input.offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function run(request: DecodeRequest): Promise<void> {
  try {
    const { data, width, height } = await decodeWithSharp(await bytesOf(request.input), { exif: request.exif });
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
