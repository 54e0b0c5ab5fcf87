import { createHash } from "node:crypto";
import { MemorySource, type ByteSource } from "../../lib/checkpoint/byteSource.js";
import { disposeTensors } from "../../lib/checkpoint/dispose.js";
import type { FileLayer } from "../../lib/checkpoint/files/durableFile.js";
import { OrderedDict, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { readCheckpointFrom } from "../../lib/checkpoint/readCheckpoint.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { SimulatedDisk } from "./simulatedDisk.js";

/** Small checkpoints, each unlike every other, made by the real writer and opened by the real reader. */
export class CheckpointContents {
  readonly #byNumber = new Map<number, Uint8Array>();
  readonly #byDigest = new Map<string, number>();
  readonly #known = new WeakMap<Uint8Array, number | null>();

  /** @param elements float32 values in each */
  constructor(private readonly elements = 96) {}

  /** The file of checkpoint `number`. */
  async bytes(number: number): Promise<Uint8Array> {
    const made = this.#byNumber.get(number);
    if (made !== undefined) return made;
    const disk = new SimulatedDisk();
    await saveNumber("/content.pth", number, { files: disk, elements: this.elements });
    const entry = disk.listing().get("content.pth");
    if (entry?.kind !== "file") throw new Error("the writer made no file");
    await requireLoads(new MemorySource("content.pth", entry.bytes), number, this.elements);
    this.#byNumber.set(number, entry.bytes);
    this.#byDigest.set(digest(entry.bytes), number);
    return entry.bytes;
  }

  /** Number of the checkpoint whose bytes these are, each of which the real reader has loaded, or null. */
  identify(bytes: Uint8Array): number | null {
    let number = this.#known.get(bytes);
    if (number === undefined) this.#known.set(bytes, number = this.#byDigest.get(digest(bytes)) ?? null);
    return number;
  }
}

/** What checkpoint `number` holds. The caller disposes of the weight. */
export function valueOf(number: number, elements = 96): { value: Record<string, unknown>; weight: Tensor } {
  const weight = torch.tensor(Array.from({ length: elements }, (_, i) => number + (i % 128) / 128));
  return { value: { epoch: number, arch: "vit_small", state_dict: new OrderedDict([["weight", weight]]) }, weight };
}

/** Writes checkpoint `number` with the real writer. */
export async function saveNumber(
  path: string, number: number, { files, elements }: { files?: FileLayer; elements?: number } = {},
): Promise<void> {
  const { value, weight } = valueOf(number, elements);
  try {
    await writeCheckpoint(path, value, { files });
  } finally {
    weight.dispose();
  }
}

/** Opens a checkpoint with the real reader. Throws where it does not load, or is not checkpoint `number`. */
export async function requireLoads(source: ByteSource, number: number, elements = 96): Promise<void> {
  const value = await readCheckpointFrom<{ epoch: number; state_dict: Map<string, Tensor> }>(source);
  try {
    const weight = value.state_dict.get("weight")!;
    const differing = (weight.data() as Float32Array).findIndex((each, i) => each !== number + (i % 128) / 128);
    if (value.epoch !== number || weight.shape[0] !== elements || differing >= 0) throw new Error(`it is not checkpoint ${number}`);
  } finally {
    disposeTensors(value);
  }
}

function digest(bytes: Uint8Array): string {
  return createHash("sha1").update(bytes).digest("base64");
}
