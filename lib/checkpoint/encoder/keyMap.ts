/**
 * Key maps between our names of an encoder's tensors (upstream's, which are timm's for ViTs and torchvision's for ResNets) and those of
 * another library: tables of patterns, read in both directions by `compileKeyMap`.
 *
 * `{n}` stands for a number, `{p}` for weight or bias, `{b}` for what a batch normalisation has.
 */

/** Our pattern, and theirs. The rows stand in the order of our state dict. */
export type KeyRow = readonly [ours: string, theirs: string];

/** One tensor of ours, and several of theirs that make it up, one below the other along the first dimension. */
export type JoinedRow = readonly [ours: string, theirs: readonly string[]];

export interface Layout {
  readonly name: "vit" | "resnet" | "torchvision-vit" | "huggingface-vit" | "huggingface-resnet";
  readonly family: "vit" | "resnet";
  /** Any of these keys, behind whatever prefix, gives the layout away. */
  readonly signatures: readonly string[];
  readonly rows: readonly (KeyRow | JoinedRow)[];
  /** The classifier's weight, [classes, features]. */
  readonly classifiers: readonly string[];
  /** Patterns of keys that are no part of the encoder: heads and poolers. `*` stands for anything. */
  readonly dropped: readonly string[];
}

/** Where a key of a file goes. */
export interface Place {
  readonly ours: string;
  /** Which of how many parts of our tensor it is; 0 of 1 where they correspond one to one. */
  readonly part: number;
  readonly parts: number;
  /** Place in our order. */
  readonly order: readonly number[];
}

const PLACEHOLDERS: Record<string, readonly string[]> = {
  p: ["weight", "bias"],
  b: ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
};

export class KeyMap {
  readonly #rows: { ours: Pattern; theirs: Pattern[]; group: number; index: number }[] = [];
  readonly #dropped: Pattern[];

  constructor(readonly layout: Layout) {
    let group = -1;
    let stem: string | null = null;
    for (const [index, [ours, theirs]] of layout.rows.entries()) {
      // Rows that repeat over the same numbered part follow each other: all of block 0 before block 1.
      const repeated = ours.includes("{n}") ? ours.slice(0, ours.indexOf("{n}")) : null;
      if (repeated === null || repeated !== stem) group++;
      stem = repeated;
      const parts = typeof theirs === "string" ? [theirs] : theirs;
      this.#rows.push({ ours: new Pattern(ours), theirs: parts.map((each) => new Pattern(each)), group, index });
    }
    this.#dropped = layout.dropped.map((each) => new Pattern(each));
  }

  /** Where a key of the other library belongs; null for a key that is known and not needed; undefined for an unknown one. */
  place(key: string): Place | null | undefined {
    for (const { ours, theirs, group, index } of this.#rows) {
      for (const [part, pattern] of theirs.entries()) {
        const found = pattern.match(key);
        if (found === null) continue;
        return { ours: ours.fill(found), part, parts: theirs.length, order: [group, found.n ?? 0, index, pattern.suffixRank(found)] };
      }
    }
    return this.#dropped.some((pattern) => pattern.match(key) !== null) ? null : undefined;
  }

  /** The other library's keys for one of ours, in the order of its parts; undefined for a key that is not in the table. */
  theirs(key: string): string[] | undefined {
    for (const { ours, theirs } of this.#rows) {
      const found = ours.match(key);
      if (found !== null) return theirs.map((pattern) => pattern.fill(found));
    }
    return undefined;
  }
}

type Found = { n?: number; p?: string; b?: string };

class Pattern {
  readonly #expression: RegExp;

  constructor(readonly text: string) {
    const source = text
      .replaceAll(/[.\\]/g, String.raw`\$&`)
      .replaceAll("{n}", String.raw`(?<n>0|[1-9]\d{0,3})`)
      .replaceAll("{p}", `(?<p>${PLACEHOLDERS.p!.join("|")})`)
      .replaceAll("{b}", `(?<b>${PLACEHOLDERS.b!.join("|")})`)
      .replaceAll("*", ".*");
    this.#expression = new RegExp(`^${source}$`);
  }

  match(key: string): Found | null {
    const groups = this.#expression.exec(key)?.groups;
    if (groups === undefined) return this.#expression.test(key) ? {} : null;
    return { ...groups, ...(groups.n === undefined ? {} : { n: Number(groups.n) }) } as Found;
  }

  fill({ n, p, b }: Found): string {
    return this.text.replace("{n}", String(n)).replace("{p}", String(p)).replace("{b}", String(b));
  }

  suffixRank({ p, b }: Found): number {
    return p !== undefined ? PLACEHOLDERS.p!.indexOf(p) : b !== undefined ? PLACEHOLDERS.b!.indexOf(b) : 0;
  }
}
