import { basename } from "node:path";
import type { FileFacts, FileLayer, WritableFile } from "../../lib/checkpoint/files/durableFile.js";

/** What a folder holds, by name. */
export type Listing = Map<string, Entry>;
export type Entry = { kind: "file"; bytes: Uint8Array } | { kind: "link"; target: string } | { kind: "folder" };

export type Operation =
  | "create" | "write" | "sync" | "close" | "rename" | "remove" | "symlink" | "link" | "readLink" | "resolve" | "read" | "list" | "look"
  | "makeFolder" | "syncFolder";

/** What happens to one operation. Without `error` and `short` it goes well. */
export interface Decision {
  /** Thrown: before the operation has any effect, or, with `done`, after it has. */
  error?: Error;
  done?: boolean;
  /** A write takes only half of its bytes. */
  short?: boolean;
}

/** A thing on the disk, which may have several names. */
export type Node = FileNode | { kind: "link"; target: string } | { kind: "folder" };

interface FileNode {
  kind: "file";
  /** Bytes that survive a power cut. */
  safe: Uint8Array;
  /** Bytes written since, in order. */
  pending: Uint8Array[];
  /** Its fsync has failed; the system may have dropped the bytes, and another fsync does not bring them back. */
  broken: boolean;
}

/** A change of the folder that a power cut may undo. */
export type Change =
  | { kind: "set"; name: string; node: number }
  | { kind: "unset"; name: string }
  | { kind: "rename"; from: string; to: string; node: number };

/** The whole state of a disk. */
export interface DiskImage {
  /** What programs see. */
  names: Map<string, number>;
  /** What survives a power cut in any case. */
  safe: Map<string, number>;
  /** What was done to the folder since its last fsync, in order. */
  changes: Change[];
  nodes: Map<number, Node>;
}

/**
 * One folder in memory that forgets as a real disk may: bytes are safe once the file was fsynced, names once the folder was. Each
 * operation asks `before` first, which may let it fail or cut it short.
 */
export class SimulatedDisk implements FileLayer {
  before: (operation: Operation, path: string) => Decision | void = () => undefined;
  readonly #image: DiskImage;
  #nextNode: number;

  constructor(start: DiskImage | Listing = new Map()) {
    this.#image = start instanceof Map ? imageOf(start) : copyOf(start);
    this.#nextNode = 1 + Math.max(0, ...this.#image.nodes.keys());
  }

  /** A copy of the state at this moment. */
  image(): DiskImage {
    return copyOf(this.#image);
  }

  /** What programs see. */
  listing(): Listing {
    const { names, nodes } = this.#image;
    return new Map([...names].map(([name, id]) => [name, entryOf(nodes.get(id)!)]));
  }

  async create(path: string): Promise<WritableFile> {
    return this.#do("create", path, () => {
      if (this.#image.names.has(basename(path))) throw systemError("EEXIST", "create");
      const id = this.#add(path, { kind: "file", safe: new Uint8Array(0), pending: [], broken: false });
      const file = (): FileNode => this.#image.nodes.get(id) as FileNode;
      return {
        write: async (bytes) => {
          const decision = this.before("write", path) ?? {};
          if (decision.error && !decision.done) throw decision.error;
          const taken = Buffer.from(decision.short ? bytes.subarray(0, (bytes.byteLength + 1) >> 1) : bytes);
          this.#image.nodes.set(id, { ...file(), pending: [...file().pending, taken] });
          if (decision.error) throw decision.error;
          return taken.byteLength;
        },
        sync: async () => {
          try {
            await this.#do("sync", path, () => {
              if (!file().broken) this.#image.nodes.set(id, { ...file(), safe: contentOf(file()), pending: [] });
            });
          } catch (error) {
            this.#image.nodes.set(id, { ...file(), broken: file().pending.length > 0 });
            throw error;
          }
        },
        close: () => this.#do("close", path, () => undefined),
      };
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#do("rename", to, () => {
      const { names, changes } = this.#image;
      const [source, target] = [basename(from), basename(to)];
      const node = this.#idOf(from, "rename");
      if (names.get(target) === node) return; // POSIX: two names of one file both stay
      if (this.#image.nodes.get(names.get(target) ?? -1)?.kind === "folder") throw systemError("EISDIR", "rename");
      names.delete(source);
      names.set(target, node);
      changes.push({ kind: "rename", from: source, to: target, node });
    });
  }

  remove(path: string): Promise<void> {
    return this.#do("remove", path, () => {
      if (this.#image.nodes.get(this.#idOf(path, "unlink"))?.kind === "folder") throw systemError("EISDIR", "unlink");
      this.#image.names.delete(basename(path));
      this.#image.changes.push({ kind: "unset", name: basename(path) });
    });
  }

  symlink(target: string, path: string): Promise<void> {
    return this.#do("symlink", path, () => {
      if (this.#image.names.has(basename(path))) throw systemError("EEXIST", "symlink");
      this.#add(path, { kind: "link", target });
    });
  }

  link(existing: string, path: string): Promise<void> {
    return this.#do("link", path, () => {
      const node = this.#idOf(existing, "link");
      if (this.#image.names.has(basename(path))) throw systemError("EEXIST", "link");
      this.#name(path, node);
    });
  }

  readLink(path: string): Promise<string> {
    return this.#do("readLink", path, () => {
      const node = this.#image.nodes.get(this.#idOf(path, "readlink"))!;
      if (node.kind !== "link") throw systemError("EINVAL", "readlink");
      return node.target;
    });
  }

  resolve(path: string): Promise<string> {
    return this.#do("resolve", path, () => {
      const node = this.#image.nodes.get(this.#idOf(path, "realpath"))!;
      if (node.kind !== "link") return path;
      const target = path.slice(0, -basename(path).length) + node.target;
      this.#idOf(target, "realpath");
      return target;
    });
  }

  async *read(path: string): AsyncGenerator<Uint8Array> {
    const bytes = await this.#do("read", path, () => contentOf(this.#image.nodes.get(this.#idOf(path, "open"))!));
    const half = bytes.byteLength >> 1;
    yield bytes.subarray(0, half);
    yield bytes.subarray(half);
  }

  list(folder: string): Promise<string[]> {
    return this.#do("list", folder, () => [...this.#image.names.keys()]);
  }

  look(path: string): Promise<FileFacts | null> {
    return this.#do("look", path, () => {
      const node = this.#image.nodes.get(this.#image.names.get(basename(path)) ?? -1);
      // Written long ago: a writer that was killed is gone.
      return node === undefined ? null : { kind: node.kind, modified: 0 };
    });
  }

  /** The folder is always there. */
  makeFolder(path: string): Promise<void> {
    return this.#do("makeFolder", path, () => undefined);
  }

  syncFolder(path: string): Promise<void> {
    return this.#do("syncFolder", path, () => {
      this.#image.safe = new Map(this.#image.names);
      this.#image.changes = [];
    });
  }

  async #do<T>(operation: Operation, path: string, effect: () => T): Promise<T> {
    const { error, done } = this.before(operation, path) ?? {};
    if (error && !done) throw error;
    const result = effect();
    if (error) throw error;
    return result;
  }

  #add(path: string, node: Node): number {
    const id = this.#nextNode++;
    this.#image.nodes.set(id, node);
    this.#name(path, id);
    return id;
  }

  #name(path: string, node: number): void {
    this.#image.names.set(basename(path), node);
    this.#image.changes.push({ kind: "set", name: basename(path), node });
  }

  #idOf(path: string, call: string): number {
    const id = this.#image.names.get(basename(path));
    if (id === undefined) throw systemError("ENOENT", call);
    return id;
  }
}

/** An error as `node:fs` throws it. */
export function systemError(code: string, call: string): Error {
  return Object.assign(new Error(`${code}: injected, ${call}`), { code, syscall: call });
}

function contentOf(node: Node): Uint8Array {
  if (node.kind !== "file") throw systemError("EISDIR", "read");
  return node.pending.length === 0 ? node.safe : Buffer.concat([node.safe, ...node.pending]);
}

function entryOf(node: Node): Entry {
  return node.kind === "file" ? { kind: "file", bytes: contentOf(node) } : node;
}

function copyOf({ names, safe, changes, nodes }: DiskImage): DiskImage {
  return { names: new Map(names), safe: new Map(safe), changes: [...changes], nodes: new Map(nodes) }; // nodes are replaced, never changed
}

function imageOf(listing: Listing): DiskImage {
  const names = new Map<string, number>();
  const nodes = new Map<number, Node>();
  for (const [name, entry] of listing) {
    names.set(name, nodes.size + 1);
    nodes.set(nodes.size + 1, entry.kind === "file" ? { kind: "file", safe: entry.bytes, pending: [], broken: false } : entry);
  }
  return { names, safe: new Map(names), changes: [], nodes };
}
