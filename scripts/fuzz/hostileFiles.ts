import { writeFileSync } from "node:fs";
import { assembleZip, plainShape } from "./zipModel.js";

/** Kinds of large pickles that hold as many of one small thing as fit: each costs far more memory than bytes. */
export interface HostileKind {
  /** Opcodes before the first item. */
  readonly head: string;
  /** Opcodes of item `i`, which leave one value on the stack (two where `pairs`). */
  readonly item: (i: number) => string;
  /** A dict of them instead of a list. */
  readonly pairs?: boolean;
  /** Each item is dropped again. */
  readonly dropped?: boolean;
}

function little(value: number, bytes: number): string {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntLE(value, 0, bytes);
  return buffer.toString("latin1");
}

const text = (value: string): string => `\x8c${String.fromCharCode(value.length)}${value}`;
const storage = "(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x04t";

export const hostileKinds: Readonly<Record<string, HostileKind>> = {
  "small integers": { head: "", item: () => "K\x01" },
  "integers beyond 2^31": { head: "", item: (i) => `\x8a\x05${little(2 ** 32 + i, 5)}` },
  "integers beyond 2^53": { head: "", item: (i) => `\x8a\x08${little(i, 4)}\x00\x00\x00\x10` },
  "long integers": { head: "", item: (i) => `\x8a\xc8${little(i, 4)}${"\x11".repeat(196)}` },
  "floats": { head: "", item: (i) => `G?\xf1${little(i, 4)}\x01\x01` },
  "short strings": { head: "", item: (i) => text(i.toString(36).padStart(5, "0")) },
  "wide strings": { head: "", item: (i) => `\x8c\x14${"\xc4\x80".repeat(8)}${(i % 10000).toString().padStart(4, "0")}` },
  "byte strings": { head: "", item: () => "C\x00" },
  "byte strings of 100": { head: "", item: () => `C\x64${"a".repeat(100)}` },
  "Python 2 strings of bytes": { head: "", item: () => "U\x02\xff\xff" },
  "empty tuples": { head: "", item: () => ")" },
  "tuples of one": { head: "", item: () => "K\x01\x85" },
  "empty lists": { head: "", item: () => "]" },
  "lists of one": { head: "", item: () => "]K\x01a" },
  "empty dicts": { head: "", item: () => "}" },
  "dicts of one": { head: "", item: () => "}\x8c\x01aK\x01s" },
  "dicts of one integer key": { head: "", item: () => "}K\x01K\x01s" },
  "one dict of integers": { head: "", item: (i) => `J${little(i, 4)}K\x01`, pairs: true },
  "one dict of strings": { head: "", item: (i) => `${text(i.toString(36).padStart(5, "0"))}K\x01`, pairs: true },
  "one dict of tuples": { head: "", item: () => ")K\x01", pairs: true },
  "empty sets": { head: "", item: () => "\x8f" },
  "sets of one": { head: "", item: () => "\x8f(K\x01\x90" },
  "OrderedDicts": { head: "ccollections\nOrderedDict\nq\x010", item: () => "h\x01)R" },
  "OrderedDicts with attributes": { head: "ccollections\nOrderedDict\nq\x010", item: () => "h\x01)R}\x8c\x01aK\x01sb" },
  "namespaces": { head: "cargparse\nNamespace\nq\x010", item: () => "h\x01)R}b" },
  "torch.Size": { head: "ctorch\nSize\nq\x010", item: () => "h\x01(K\x01K\x01t\x85R" },
  "devices": { head: "ctorch\ndevice\nq\x010", item: () => "h\x01\x8c\x04cudaK\x01\x86R" },
  "complex numbers": { head: "c__builtin__\ncomplex\nq\x010", item: () => "h\x01K\x01K\x01\x86R" },
  "bytearrays": { head: "c__builtin__\nbytearray\nq\x010", item: () => "h\x01)R" },
  "globals": { head: "", item: () => "cos\nsystem\n" },
  "placeholders": { head: "cos\nsystem\nq\x010", item: () => "h\x01)R" },
  "placeholders with state": { head: "cos\nsystem\nq\x010", item: () => "h\x01)R}b" },
  "memo entries": { head: "N", item: () => "\x94", dropped: true },
  "scattered memo entries": { head: "N", item: (i) => `r${little(i * 2 + 5, 4)}`, dropped: true },
  "tensors": {
    head: `ctorch._utils\n_rebuild_tensor\nq\x010${storage}Qq\x020`, item: () => "h\x01(h\x02K\x00K\x01\x85K\x01\x85tR",
  },
  "tensors of many dimensions": {
    head: `ctorch._utils\n_rebuild_tensor\nq\x010${storage}Qq\x020(${"K\x01".repeat(60)}tq\x030`,
      item: () => "h\x01(h\x02K\x00h\x03h\x03tR",
  },
  "bare storages": { head: `${storage}q\x010`, item: () => "h\x01Q" },
  "numpy arrays": {
    head: "cnumpy._core.numeric\n_frombuffer\nq\x010cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87Rq\x020",
      item: () => "h\x01(C\x04abcdh\x02K\x01\x85\x8c\x01CtR",
  },
  "numpy scalars": { head: "cnumpy._core.multiarray\nscalar\nq\x010cnumpy\ndtype\n\x8c\x02i8\x89\x88\x87Rq\x020",
    item: () => "h\x01h\x02C\x08aaaaaaaa\x86R" },
};

/** The stack's limit is 250,000 values. */
const ITEMS_AT_ONCE = 50_000;

/** A zip checkpoint whose pickle has `count` items, and at least `size` bytes. */
export function writeHostileFile(path: string, { head, item, pairs, dropped }: HostileKind, count: number, size: number): void {
  const parts: Buffer[] = [Buffer.from(`\x80\x04${head}${dropped ? "" : pairs ? "}" : "]"}`, "latin1")];
  for (let from = 0; from < count; from += ITEMS_AT_ONCE) {
    const items: string[] = [];
    for (let i = from; i < Math.min(count, from + ITEMS_AT_ONCE); i++) items.push(item(i));
    parts.push(Buffer.from(dropped ? items.join("") : `(${items.join("")}${pairs ? "u" : "e"}`, "latin1"));
  }
  parts.push(Buffer.from(".", "latin1"));
  const pickle = Buffer.concat(parts);
  const { bytes } = assembleZip([
    { name: Buffer.from("x/data.pkl"), data: pickle }, { name: Buffer.from("x/data/0"), data: Buffer.alloc(16) },
    { name: Buffer.from("x/unused"), data: Buffer.alloc(Math.max(0, size - pickle.length)) },
  ], plainShape);
  writeFileSync(path, bytes);
}
