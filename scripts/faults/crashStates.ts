import type { Random } from "../fuzz/random.js";
import type { Change, DiskImage, Entry, Listing, Node } from "./simulatedDisk.js";

/** Combinations up to which all are tried. */
const EXHAUSTIVE = 108;
/** Combinations tried where there are more, besides the plain ones. */
const SAMPLED = 40;

/** What may have become of bytes that were written and not fsynced. */
const FATES = ["all", "none", "cut", "zeros", "hole"] as const;
type Fate = (typeof FATES)[number];

/**
 * What a folder may hold after a power cut, as POSIX allows it: of the changes since the folder's last fsync any may have reached the
 * disk and any not, in any order (those of one name in theirs); a rename is never half done, but the old name may still be there
 * besides the new one; bytes since a file's last fsync may be there, lost, cut, zero, or zero in places. The first state is that
 * after the process alone was killed: everything is there. Where there are too many, some are drawn at random.
 */
export function* crashStates(image: DiskImage, random: Random): Generator<Listing> {
  const seen = new Set<string>();
  for (const choice of choices(image.changes, random)) {
    const names = new Map(image.safe);
    image.changes.forEach((change, i) => apply(change, choice[i]!, names));
    const pending = [...names.values()].some((id) => isPending(image.nodes.get(id)!));
    for (const fate of pending ? FATES : (["all"] as const)) {
      const key = `${fate} ${[...names].map(([name, id]) => `${name}=${id}`).sort().join(" ")}`;
      if (seen.has(key)) continue;
      seen.add(key);
      yield new Map([...names].map(([name, id]) => [name, survivor(image.nodes.get(id)!, fate, random)]));
    }
  }
}

/** 0: the change is lost, 1: it is there, 2: a rename whose old name is still there too. */
function* choices(changes: readonly Change[], random: Random): Generator<number[]> {
  const options = changes.map(({ kind }) => (kind === "rename" ? 3 : 2));
  const all = options.reduce((product, each) => product * each, 1);
  yield changes.map(() => 1);
  if (all <= EXHAUSTIVE) {
    for (let number = 0; number < all; number++) {
      let rest = number;
      yield options.map((count) => {
        const digit = rest % count;
        rest = (rest - digit) / count;
        return digit;
      });
    }
    return;
  }
  for (let i = 0; i < changes.length; i++) {
    yield changes.map((_, j) => (j < i ? 1 : 0)); // the first i
    yield changes.map((_, j) => (j === i ? 0 : 1)); // all but one
    yield changes.map((_, j) => (j === i ? 1 : 0)); // one alone
  }
  for (let i = 0; i < SAMPLED; i++) yield options.map((count) => random.below(count));
}

function apply(change: Change, choice: number, names: Map<string, number>): void {
  if (choice === 0) return;
  switch (change.kind) {
    case "set":
      names.set(change.name, change.node);
      break;
    case "unset":
      names.delete(change.name);
      break;
    case "rename":
      if (choice === 1) names.delete(change.from);
      else names.set(change.from, change.node);
      names.set(change.to, change.node);
  }
}

function isPending(node: Node): boolean {
  return node.kind === "file" && node.pending.length > 0;
}

function survivor(node: Node, fate: Fate, random: Random): Entry {
  if (node.kind !== "file") return node;
  const { safe, pending } = node;
  if (pending.length === 0) return { kind: "file", bytes: safe };
  const written = Buffer.concat(pending);
  switch (fate) {
    case "all": break;
    case "none": return { kind: "file", bytes: safe };
    case "cut": return { kind: "file", bytes: Buffer.concat([safe, written.subarray(0, 1 + random.below(written.length - 1))]) };
    case "zeros":
      written.fill(0);
      break;
    case "hole": {
      const from = random.below(written.length);
      written.fill(0, from, from + 1 + random.below(written.length - from));
    }
  }
  return { kind: "file", bytes: Buffer.concat([safe, written]) };
}
