import { open, readFile, rm, stat, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { writeDurably } from "../../checkpoint/index.js";
import { diskFiles } from "../../checkpoint/files/durableFile.js";
import type { BadImage } from "../../data/index.js";
import { jsonLine, rowsPerChunk, type EmbeddingChunk, type EmbeddingRows } from "./embeddings.js";

/** Results so far cannot be gone on with: something has changed since, or they are damaged. */
export class EmbedResumeError extends Error {
  override readonly name = "EmbedResumeError";
}

/** What the embeddings depend on, in words and values that a message can name. */
export type Manifest = Readonly<Record<string, string | number | boolean | null>>;

/** How far the work has come: a line of the journal. */
interface Progress {
  /** Images that were read, or were found unreadable. */
  done: number;
  rows: number;
  nameBytes: number;
  /** Digest of the names of all of them, in order. */
  names: string;
  /** Those that were found unreadable since the line before. */
  bad: BadImage[];
}

const MANIFEST = "manifest.json", JOURNAL = "journal.jsonl", ROWS = "rows.f32", NAMES = "names.jsonl";

/**
 * Embeddings that are being computed, on disk: rows and names grow at their ends, and a journal tells up to where they are complete. Whatever
 * stops the work, what the journal's last whole line speaks of is there; what follows it is cut off when the work goes on.
 */
export class PartialEmbeddings implements EmbeddingRows {
  readonly bad: BadImage[] = [];
  #done: Progress = { done: 0, rows: 0, nameBytes: 0, names: "", bad: [] };
  /** Since the last line of the journal. */
  #newBad: BadImage[] = [];
  #rows = 0;
  #nameBytes = 0;

  private constructor(
    readonly folder: string, readonly dim: number,
    private readonly files: { journal: FileHandle; rows: FileHandle; names: FileHandle },
  ) {}

  /** The folder in which the results for the file `out` are collected. */
  static folderOf(out: string): string {
    return `${out}.part`;
  }

  /** Whether there are results that a run could go on with. */
  static async exists(out: string): Promise<boolean> {
    return stat(join(PartialEmbeddings.folderOf(out), MANIFEST)).then(() => true, () => false);
  }

  static async remove(out: string): Promise<void> {
    await rm(PartialEmbeddings.folderOf(out), { recursive: true, force: true });
  }

  /**
   * Goes on with what there is for `out`, or begins.
   *
   * @throws EmbedResumeError that names what differs from when it was begun, with both values
   */
  static async open(out: string, manifest: Manifest, dim: number): Promise<PartialEmbeddings> {
    const folder = PartialEmbeddings.folderOf(out);
    if (await PartialEmbeddings.exists(out)) await requireSame(folder, manifest);
    else {
      await PartialEmbeddings.remove(out); // one whose beginning was not finished
      await diskFiles.makeFolder(folder);
      for (const name of [JOURNAL, ROWS, NAMES]) await (await open(join(folder, name), "w")).close();
      // The manifest comes last: where it is, all is there.
      await writeDurably(join(folder, MANIFEST), (sink) => sink.write(Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`)));
    }
    const opened: FileHandle[] = [];
    try {
      for (const name of [JOURNAL, ROWS, NAMES]) opened.push(await open(join(folder, name), "r+"));
      const [journal, rows, names] = opened as [FileHandle, FileHandle, FileHandle];
      const partial = new PartialEmbeddings(folder, dim, { journal, rows, names });
      await partial.#goOn();
      return partial;
    } catch (error) {
      for (const file of opened) await file.close();
      throw error;
    }
  }

  /** Images that are done, the unreadable ones included, as of the last commit. */
  get done(): number {
    return this.#done.done;
  }

  /** Digest of their names. */
  get namesDigest(): string {
    return this.#done.names;
  }

  get count(): number {
    return this.#rows;
  }

  /** Adds rows, and images that have none. They are safe from the next commit on. */
  async add({ names, features }: EmbeddingChunk, bad: readonly BadImage[]): Promise<void> {
    const text = Buffer.from(names.map((name) => `${jsonLine(name)}\n`).join(""), "utf8");
    await writeAt(this.files.rows, new Uint8Array(features.buffer, features.byteOffset, features.byteLength), 4 * this.dim * this.#rows);
    await writeAt(this.files.names, text, this.#nameBytes);
    this.#rows += names.length;
    this.#nameBytes += text.length;
    this.bad.push(...bad);
    this.#newBad.push(...bad);
  }

  /** Makes what was added survive whatever comes. */
  async commit(done: number, namesDigest: string): Promise<void> {
    if (done === this.#done.done) return;
    const { rows, names, journal } = this.files;
    await rows.datasync();
    await names.datasync();
    this.#done = { done, rows: this.#rows, nameBytes: this.#nameBytes, names: namesDigest, bad: this.#newBad };
    this.#newBad = [];
    const { size } = await journal.stat();
    await writeAt(journal, Buffer.from(`${jsonLine(this.#done)}\n`, "utf8"), size);
    await journal.datasync();
  }

  async *chunks(): AsyncGenerator<EmbeddingChunk> {
    const step = rowsPerChunk(this.dim);
    const lines = new NameReader(this.files.names, this.#nameBytes);
    for (let first = 0; first < this.#rows; first += step) {
      const size = Math.min(step, this.#rows - first);
      const features = new Float32Array(size * this.dim);
      await readAt(this.files.rows, new Uint8Array(features.buffer), 4 * this.dim * first);
      yield { names: await lines.take(size), features };
    }
  }

  async close(): Promise<void> {
    for (const file of Object.values(this.files)) await file.close();
  }

  /** Reads the journal, and cuts off what was written after its last line. */
  async #goOn(): Promise<void> {
    const { journal, rows, names } = this.files;
    const text = await readFile(join(this.folder, JOURNAL), "utf8");
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    for (const line of whole.split("\n").slice(0, -1)) {
      const progress = parsed(line) as Progress | undefined;
      if (progress === undefined || !(progress.done >= this.#done.done && progress.rows >= this.#done.rows)) throw this.#damaged(JOURNAL);
      this.#done = progress;
      this.bad.push(...progress.bad);
    }
    const { rows: count, nameBytes } = this.#done;
    if ((await rows.stat()).size < 4 * this.dim * count) throw this.#damaged(ROWS);
    if ((await names.stat()).size < nameBytes) throw this.#damaged(NAMES);
    await journal.truncate(Buffer.byteLength(whole));
    await rows.truncate(4 * this.dim * count);
    await names.truncate(nameBytes);
    this.#rows = count;
    this.#nameBytes = nameBytes;
  }

  #damaged(name: string): EmbedResumeError {
    return new EmbedResumeError(`${join(this.folder, name)} is damaged, so the work cannot go on from it; begin anew with --restart`);
  }
}

async function requireSame(folder: string, manifest: Manifest): Promise<void> {
  const path = join(folder, MANIFEST);
  const before = parsed(await readFile(path, "utf8")) as Manifest | undefined;
  if (typeof before !== "object" || before === null) throw new EmbedResumeError(`${path} is damaged; begin anew with --restart`);
  const keys = [...new Set([...Object.keys(before), ...Object.keys(manifest)])];
  const changed = keys.filter((key) => before[key] !== manifest[key]);
  if (changed.length === 0) return;
  const what = changed.map((key) => `${key} was ${JSON.stringify(before[key] ?? null)} and is ${JSON.stringify(manifest[key] ?? null)}`);
  throw new EmbedResumeError(
    `${folder} has results of a run with other settings: ${what.join("; ")}. Give what it was to go on, begin anew with --restart, or write to another file`,
  );
}

/** Names, a line each, out of the beginning of a file. */
class NameReader {
  #at = 0;
  #rest: Buffer = Buffer.alloc(0);
  #lines: string[] = [];

  constructor(private readonly file: FileHandle, private readonly length: number) {}

  async take(count: number): Promise<string[]> {
    while (this.#lines.length < count) {
      const piece = Buffer.alloc(Math.min(2 ** 20, this.length - this.#at));
      if (piece.length === 0) throw new EmbedResumeError("there are fewer names than rows; begin anew with --restart");
      await readAt(this.file, piece, this.#at);
      this.#at += piece.length;
      const bytes = Buffer.concat([this.#rest, piece]);
      const end = bytes.lastIndexOf(10) + 1;
      this.#rest = bytes.subarray(end);
      this.#lines.push(...bytes.toString("utf8", 0, end).split("\n").slice(0, -1));
    }
    return this.#lines.splice(0, count).map((line) => JSON.parse(line) as string);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    done += (await file.write(bytes, done, bytes.byteLength - done, position + done)).bytesWritten;
  }
}

async function readAt(file: FileHandle, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.byteLength;) {
    const { bytesRead } = await file.read(target, done, target.byteLength - done, position + done);
    if (bytesRead === 0) throw new EmbedResumeError("the results so far are cut short; begin anew with --restart");
    done += bytesRead;
  }
}
