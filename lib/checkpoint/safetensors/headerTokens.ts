import { CheckpointError } from "../error.js";
import { cost, type CheckpointLimits, type MemoryBudget } from "../limits.js";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** What JSON counts as white space: space, tab, line feed, carriage return. */
const SPACES: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);
/** Characters of JSON's numbers, to tell `-1` and `1e9` from no number at all. */
const NUMBER = /[-+.\deE]/;

/** What to do about a header that no well-behaved program writes. */
const REMEDY = "the file is damaged, or its writer is at fault; download it again, or save the tensors again with safetensors";

/**
 * Reads a header's JSON token by token, as its grammar asks for them. Why not `JSON.parse`: it keeps the last of two equal keys
 * without a word, rounds integers beyond 2^53, builds whatever it finds before anyone can count it, and cannot tell where a fault lies.
 * Nesting is only as deep as the grammar, so nothing here recurses.
 */
export class HeaderTokens {
  #at = 0;
  /** Tensor that is being read, for errors. */
  entry: string | undefined = undefined;

  /**
   * @param bytes - the header, valid UTF-8
   * @param start - its position in the file, so that faults are told by theirs
   */
  constructor(
    private readonly bytes: Buffer, private readonly start: number, private readonly file: string,
    private readonly limits: CheckpointLimits, private readonly budget: MemoryBudget,
  ) {}

  /** Position in the file of the next token. */
  get position(): number {
    this.#skipSpaces();
    return this.start + this.#at;
  }

  /** Throws `CheckpointError` at `position`, or at the next byte. */
  fail(reason: string, position = this.start + this.#at): never {
    throw new CheckpointError({ file: this.file, entry: this.entry }, position, `${reason}; ${REMEDY}`);
  }

  /** Throws `CheckpointError` for an element type that is sound but that nothing here can hold. */
  unsupported(type: string, position: number): never {
    throw new CheckpointError(
      { file: this.file, entry: this.entry }, position,
      `the dtype ${type} has no tensors here; in Python, convert this tensor with .to(torch.float32) and save the file again`,
    );
  }

  /** Counts memory before it is taken. */
  charge(bytes: number, what: string): void {
    this.budget.charge(bytes, what, { file: this.file, entry: this.entry }, this.start + this.#at);
  }

  /** Consumes `symbol` if it comes next. */
  take(symbol: string): boolean {
    this.#skipSpaces();
    if (this.bytes[this.#at] !== symbol.charCodeAt(0)) return false;
    this.#at++;
    return true;
  }

  /** Consumes `symbol`, which must come next. */
  expect(symbol: string, where: string): void {
    if (!this.take(symbol)) this.fail(`${where} needs ${JSON.stringify(symbol)} here, not ${this.#next()}`);
  }

  /** After the value of a list or object: true when another one follows, false at its end. */
  another(close: string, where: string): boolean {
    if (this.take(close)) return false;
    if (!this.take(",")) this.fail(`${where} needs "," or ${JSON.stringify(close)} here, not ${this.#next()}`);
    return true;
  }

  /** A string, at most `limits.stringBytes` long. */
  string(what: string): string {
    const position = this.position;
    if (!this.take('"')) this.fail(`${what} has to be a string, not ${this.#next()}`);
    const first = this.#at;
    let escaped = false;
    for (let byte = this.bytes[this.#at]; byte !== QUOTE; byte = this.bytes[++this.#at]) {
      if (byte === undefined) this.fail(`the header ends inside ${what}`, position);
      if (byte < 0x20) this.fail(`${what} holds the control character ${byte}, which JSON writes as an escape`);
      if (byte !== BACKSLASH) continue;
      escaped = true;
      this.#at++;
    }
    const length = this.#at - first;
    if (length > this.limits.stringBytes) {
      this.fail(`${what} has ${length} bytes; the limit is ${this.limits.stringBytes}`, position);
    }
    // Two bytes for a character, and for one with escapes three copies while they are resolved.
    this.charge(cost.text + (escaped ? 6 : 2) * length, what);
    const text = this.bytes.toString("utf8", first, this.#at++);
    return escaped ? this.#unescape(text, what, position) : text;
  }

  /** An integer from 0 to 2^53 - 1, written plainly. */
  size(what: string): number {
    const position = this.position;
    const first = this.#at;
    while (this.#at - first < 40 && NUMBER.test(String.fromCharCode(this.bytes[this.#at] ?? 0))) this.#at++;
    const text = this.bytes.toString("latin1", first, this.#at);
    if (text === "") this.fail(`${what} has to be an integer, not ${this.#next()}`);
    const value = Number(text);
    if (!/^(0|[1-9]\d*)$/.test(text) || !Number.isSafeInteger(value)) {
      this.fail(`${what} is ${text}; expected an integer from 0 to 2^53 - 1`, position);
    }
    return value;
  }

  /** Requires that only spaces follow, with which writers align the data. */
  finish(): void {
    while (this.bytes[this.#at] === 0x20) this.#at++;
    if (this.#at < this.bytes.length) this.fail(`${this.#next()} follows the header's object; only spaces may`);
  }

  #skipSpaces(): void {
    while (SPACES.has(this.bytes[this.#at] ?? 0)) this.#at++;
  }

  #unescape(text: string, what: string, position: number): string {
    let value: string;
    try {
      value = JSON.parse(`"${text}"`) as string; // one string and nothing else: its end has been found above
    } catch {
      this.fail(`${what} has an escape that JSON does not know`, position);
    }
    // Half of a character beyond 65535, which UTF-8 cannot hold: two names that differ here would be one elsewhere.
    if (/\p{Surrogate}/u.test(value)) this.fail(`${what} has an unpaired surrogate escape`, position);
    return value;
  }

  /** The next byte, to show. */
  #next(): string {
    const byte = this.bytes[this.#at];
    if (byte === undefined) return "the header's end";
    return byte > 0x20 && byte < 0x7f ? JSON.stringify(String.fromCharCode(byte)) : `byte 0x${byte.toString(16).padStart(2, "0")}`;
  }
}
