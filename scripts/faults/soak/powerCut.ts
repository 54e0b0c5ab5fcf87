import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Random } from "../../fuzz/random.js";
import { crashStates } from "../crashStates.js";
import type { Change, DiskImage, Listing, Node } from "../simulatedDisk.js";
import type { JournalEntry } from "./diskJournal.js";

/** A thing that has or had a name in the folder. */
type Known = { kind: "file"; shadow: string; safe: number } | { kind: "link"; target: string };

/**
 * A folder on a real disk in which processes can lose their power: what they made, renamed and removed since it was last safe is known from
 * a journal that they keep (diskJournal.ts), and a power cut leaves one of the states that POSIX allows then. What a killed process leaves
 * behind unsynced stays so for the processes after it.
 */
export class PoweredFolder {
  readonly #journal: string;
  readonly #shadow: string;
  /** What was there when all of it was safe. */
  #start = new Map<string, Known>();

  /** @param scratch a folder on the same disk, for journal and second names */
  constructor(readonly path: string, private readonly scratch: string) {
    this.#journal = join(scratch, "journal.jsonl");
    this.#shadow = join(scratch, "shadow");
    mkdirSync(path, { recursive: true });
    this.#allIsSafe();
  }

  /** Arguments of `node` for a process that works in the folder. */
  get nodeArguments(): string[] {
    const url = pathToFileURL(join(import.meta.dirname, "diskJournal.js"));
    for (const [name, value] of Object.entries({ folder: this.path, journal: this.#journal, shadow: this.#shadow })) url.searchParams.set(name, value);
    return ["--import", url.href];
  }

  /**
   * Cuts the power: no process may be using the folder any more.
   *
   * @returns how many states were possible, and how many names and bytes were not safe
   */
  cut(random: Random): { states: number; unsafeNames: number; unsafeBytes: number } {
    const image = this.#image();
    let states = 0;
    let chosen: Listing = new Map();
    // Each with the same chance, though their number is not known before the end.
    for (const state of crashStates(image, random)) if (random.below(++states) === 0) chosen = state;
    for (const name of readdirSync(this.path)) rmSync(join(this.path, name), { recursive: true });
    for (const [name, entry] of chosen) {
      if (entry.kind === "link") symlinkSync(entry.target, join(this.path, name));
      else if (entry.kind === "file") writeFileSync(join(this.path, name), entry.bytes);
    }
    this.#allIsSafe();
    const pending = [...image.nodes.values()].flatMap((node) => (node.kind === "file" ? node.pending : []));
    return { states, unsafeNames: image.changes.length, unsafeBytes: pending.reduce((sum, { byteLength }) => sum + byteLength, 0) };
  }

  #allIsSafe(): void {
    rmSync(this.scratch, { recursive: true, force: true });
    mkdirSync(this.#shadow, { recursive: true });
    writeFileSync(this.#journal, "");
    this.#start = new Map(readdirSync(this.path).map((name, i): [string, Known] => {
      const path = join(this.path, name);
      if (lstatSync(path).isSymbolicLink()) return [name, { kind: "link", target: readlinkSync(path) }];
      linkSync(path, join(this.#shadow, `start.${i}`));
      return [name, { kind: "file", shadow: `start.${i}`, safe: statSync(path).size }];
    }));
  }

  #image(): DiskImage {
    const known = new Map<number, Known>();
    const add = (each: Known): number => {
      known.set(known.size + 1, each);
      return known.size;
    };
    const names = new Map([...this.#start].map(([name, each]) => [name, add({ ...each })]));
    const handles = new Map<string, number>();
    let safe = new Map(names);
    let changes: Change[] = [];
    const set = (name: string, node: number): void => {
      names.set(name, node);
      changes.push({ kind: "set", name, node });
    };
    const unset = (name: string): void => {
      names.delete(name);
      changes.push({ kind: "unset", name });
    };
    const rename = (from: string, to: string): void => {
      const node = names.get(from)!;
      names.delete(from);
      names.set(to, node);
      changes.push({ kind: "rename", from, to, node });
    };
    for (const entry of this.#entries()) {
      switch (entry.op) {
        case "open":
          if (entry.node !== null) set(entry.name, add({ kind: "file", shadow: entry.node, safe: 0 }));
          handles.set(entry.handle, names.get(entry.name)!);
          break;
        case "sync": {
          const node = known.get(handles.get(entry.handle)!)!;
          if (node.kind === "file") node.safe = Math.max(node.safe, entry.size);
          break;
        }
        case "rename": rename(entry.from, entry.to); break;
        case "symlink": set(entry.name, add({ kind: "link", target: entry.target })); break;
        case "link": set(entry.name, names.get(entry.existing)!); break;
        case "unlink": unset(entry.name); break;
        case "syncFolder":
          safe = new Map(names);
          changes = [];
      }
    }
    this.#catchUp(names, known, { set, unset, rename }, add);
    const nodes = new Map<number, Node>([...known].map(([id, each]) => [id, this.#node(each)]));
    return { names, safe, changes, nodes };
  }

  /** A process may have been killed after it did something and before it wrote that down. */
  #catchUp(
    names: Map<string, number>, known: Map<number, Known>,
    { set, unset, rename }: { set(name: string, node: number): void; unset(name: string): void; rename(from: string, to: string): void },
    add: (each: Known) => number,
  ): void {
    const inodes = new Map([...known].flatMap(([id, each]) =>
      each.kind === "file" ? [[statSync(join(this.#shadow, each.shadow)).ino, id] as const] : []));
    const there = readdirSync(this.path);
    const gone = [...names.keys()].filter((name) => !there.includes(name));
    for (const name of there) {
      const path = join(this.path, name);
      const stats = lstatSync(path);
      const current = known.get(names.get(name) ?? -1);
      if (stats.isSymbolicLink()) {
        const target = readlinkSync(path);
        if (current?.kind === "link" && current.target === target) continue;
        const from = gone.find((each) => known.get(names.get(each)!)?.kind === "link");
        if (from === undefined) set(name, add({ kind: "link", target }));
        else rename(from, name);
        continue;
      }
      const node = inodes.get(stats.ino);
      if (node !== undefined && names.get(name) === node) continue;
      const from = node === undefined ? undefined : gone.find((each) => names.get(each) === node);
      if (from !== undefined) rename(from, name);
      else if (node !== undefined) set(name, node);
      else {
        const second = `late.${known.size}`;
        linkSync(path, join(this.#shadow, second));
        set(name, add({ kind: "file", shadow: second, safe: 0 }));
      }
    }
    for (const name of gone) if (names.has(name)) unset(name);
  }

  #node(each: Known): Node {
    if (each.kind === "link") return each;
    const bytes = readFileSync(join(this.#shadow, each.shadow));
    const rest = bytes.subarray(each.safe);
    return { kind: "file", safe: bytes.subarray(0, each.safe), pending: rest.byteLength === 0 ? [] : [rest], broken: false };
  }

  #entries(): JournalEntry[] {
    const lines = readFileSync(this.#journal, "utf8").split("\n");
    return lines.flatMap((line, i) => {
      try {
        return line === "" ? [] : [JSON.parse(line) as JournalEntry];
      } catch (error) {
        if (i === lines.length - 1) return []; // killed in the middle of it
        throw error;
      }
    });
  }
}
