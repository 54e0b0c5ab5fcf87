/** Where a fault lies: the file, and inside it the zip entry or section that was being read. */
export interface CheckpointSite {
  /** Path (or other name) of the checkpoint. */
  readonly file: string;
  /** Zip entry, or the name of a section of a legacy file; absent where the file as a whole is meant. */
  readonly entry?: string | undefined;
}

/** Names and numbers out of a file can be long; what is wrong stands in the first lines. */
const LONGEST_REASON = 1500;
/** Control characters and those that turn the direction of writing: a message may quote the file, and is printed in terminals. */
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/**
 * A checkpoint that cannot be read or written: damaged, hostile, of an unknown kind, or holding what this package does not know.
 *
 * Reading never runs anything that a file asks for. Whatever is wrong with one, this is the error that says so.
 */
export class CheckpointError extends Error {
  override readonly name: string = "CheckpointError";
  /** The checkpoint's path. */
  readonly file: string;
  /** Zip entry or section, or null where the file as a whole is meant. */
  readonly entry: string | null;
  /** Byte offset of the fault inside the entry (inside the file where `entry` is null), or null where there is none. */
  readonly offset: number | null;
  /** What is wrong and what to do, without the place. */
  readonly reason: string;

  constructor(site: CheckpointSite, offset: number | null, reason: string, options?: ErrorOptions) {
    const entry = site.entry ?? null;
    const shown = reason.length > LONGEST_REASON ? `${reason.slice(0, LONGEST_REASON)}…` : reason;
    const plain = shown.replace(UNPRINTABLE, escapeCharacter);
    const place = [entry === null ? null : printable(entry), offset === null ? null : `byte ${offset}`].filter((part) => part !== null);
    super(`${site.file}${place.length > 0 ? ` (${place.join(", ")})` : ""}: ${plain}`, options);
    this.file = site.file;
    this.entry = entry;
    this.offset = offset;
    this.reason = plain;
  }
}

/**
 * A name out of an untrusted file, safe to print: quoted where it holds anything but plain characters, and cut when it is long
 * (a terminal escape sequence in an error message is an attack too).
 */
export function printable(name: string, longest = 120): string {
  const cut = name.length > longest ? `${name.slice(0, longest)}…` : name;
  return /^[\w./:+-]+…?$/.test(cut) ? cut : JSON.stringify(cut).replace(/[\u007f-\uffff]/g, escapeCharacter);
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
