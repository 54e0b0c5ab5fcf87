/** Builds checkpoints byte by byte, for tests of what no well-behaved program writes. */
import { MemorySource } from "../../lib/checkpoint/byteSource.js";
import type { ByteSink } from "../../lib/checkpoint/files/durableFile.js";
import { defaultLimits, type CheckpointLimits } from "../../lib/checkpoint/limits.js";
import { parseCheckpoint } from "../../lib/checkpoint/parse.js";
import { toJavaScript } from "../../lib/checkpoint/structure.js";
import { ZipWriter } from "../../lib/checkpoint/zip/zipWriter.js";

export class MemorySink implements ByteSink {
  readonly #parts: Buffer[] = [];
  position = 0;

  async write(bytes: Uint8Array): Promise<void> {
    this.#parts.push(Buffer.from(bytes));
    this.position += bytes.byteLength;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export async function zipOf(entries: Record<string, Uint8Array | string>, wideFrom?: number): Promise<Buffer> {
  const sink = new MemorySink();
  const zip = new ZipWriter(sink, wideFrom);
  for (const [name, data] of Object.entries(entries)) {
    await zip.add(name, [typeof data === "string" ? Buffer.from(data, "latin1") : data]);
  }
  await zip.finish();
  return sink.bytes;
}

/** A pickle of protocol 2 with the given opcodes between PROTO and STOP; strings are latin-1 bytes, numbers single bytes. */
export function pickle(...parts: (string | number | Uint8Array)[]): Buffer {
  return Buffer.concat([
    Buffer.of(0x80, 2),
    ...parts.map((part) => (typeof part === "number" ? Buffer.of(part) : typeof part === "string" ? Buffer.from(part, "latin1") : part)),
    Buffer.from("."),
  ]);
}

/** BINUNICODE. */
export function text(value: string): Buffer {
  const content = Buffer.from(value, "utf8");
  const header = Buffer.alloc(5);
  header[0] = 0x58;
  header.writeUInt32LE(content.length, 1);
  return Buffer.concat([header, content]);
}

/** BININT. */
export function integer(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = 0x4a;
  bytes.writeInt32LE(value, 1);
  return bytes;
}

/** A float32 tensor over storage "0". */
export function tensor(elements: number, offset: number, size: number[], stride: number[]): Buffer {
  return Buffer.concat([
    Buffer.from("ctorch._utils\n_rebuild_tensor_v2\n(("),
    text("storage"), Buffer.from("ctorch\nFloatStorage\n"), text("0"), text("cpu"), integer(elements), Buffer.from("tQ"),
    integer(offset), Buffer.from("("), ...size.map(integer), Buffer.from("t("), ...stride.map(integer),
    Buffer.from("t"), Buffer.of(0x89), Buffer.from("ccollections\nOrderedDict\n)RtR"),
  ]);
}

/** Parses a checkpoint in memory and reads its storages, without tensors. */
export async function parseBytes(
  bytes: Uint8Array, options: { limits?: Partial<CheckpointLimits>; unknownGlobals?: "error" | "placeholder" } = {},
): Promise<unknown> {
  const parsed = await parseCheckpoint(new MemorySource("memory.pth", bytes), {
    limits: { ...defaultLimits, ...options.limits }, unknownGlobals: options.unknownGlobals ?? "error", tagFloats: false,
  });
  for (const { reference, load } of parsed.storages) await load([new Uint8Array(reference.byteLength)]);
  return toJavaScript(parsed.value, (reference) => reference);
}

/** Parses a zip checkpoint around a pickle. */
export async function parsePickle(
  data: Uint8Array, options: Parameters<typeof parseBytes>[1] & { storage?: Uint8Array } = {},
): Promise<unknown> {
  return parseBytes(await zipOf({ "x/data.pkl": data, "x/data/0": options.storage ?? new Uint8Array(16), "x/version": "3\n" }), options);
}
