import type { Retention } from "../../lib/train/runs/checkpointRetention.js";
import type { Entry, Listing } from "./simulatedDisk.js";

const POINTER = "last.pth.tar";
const CHECKPOINT = /^checkpoint_(\d+)(?:_step_(\d+))?\.pth\.tar$/;
const TEMPORARY = /^\.(checkpoint_\d+(_step_\d+)?|last)\.pth\.tar\.[^/]+\.tmp$/;

/** A checkpoint that was saved, or was to be. `number` is what its content says. */
export interface Attempt {
  name: string;
  number: number;
}

/**
 * What a run's folder must hold, kept from what the run was told (a save began, ended well, failed), with rules of its own: nothing of
 * the code under test is used.
 */
export class Expectation {
  /** Contents that each checkpoint may have. */
  readonly #contents = new Map<string, Set<number>>();
  /** Checkpoints that must be there while the pointer leads to the one saved last. */
  #required: Set<string>;
  #last: Attempt | null;
  /** Saves since, which may or may not have got somewhere. */
  #attempts: Attempt[] = [];
  /** Files of the user. */
  readonly #foreign: Listing;

  /** @param identify the number of the checkpoint whose bytes these are, or null if they are not those of one, whole */
  constructor(start: Listing, private readonly retention: Retention, private readonly identify: (bytes: Uint8Array) => number | null) {
    this.#foreign = new Map([...start].filter(([name]) => name !== POINTER && !CHECKPOINT.test(name) && !TEMPORARY.test(name)));
    this.#required = new Set([...start.keys()].filter((name) => CHECKPOINT.test(name)));
    for (const name of this.#required) this.#contents.set(name, new Set([this.#numberOf(start, name) ?? -1]));
    const number = this.#numberOf(start, POINTER);
    const pointer = start.get(POINTER);
    const name = pointer?.kind === "link" ? pointer.target
      : [...this.#required].find((each) => this.#contents.get(each)!.has(number ?? -2));
    this.#last = number === null || name === undefined ? null : { name, number };
  }

  begins(attempt: Attempt): void {
    this.#attempts.push(attempt);
    this.#contents.set(attempt.name, (this.#contents.get(attempt.name) ?? new Set()).add(attempt.number));
  }

  /** Whether a checkpoint of that number is, or was to be, somewhere. */
  knows(number: number): boolean {
    return [...this.#contents.values()].some((numbers) => numbers.has(number));
  }

  /** The save begun last has ended well. `listing` is what programs see. */
  saved(listing: Listing): void {
    const attempt = this.#attempts.at(-1)!;
    this.#required = this.#requiredBy(attempt, listing);
    this.#contents.set(attempt.name, new Set([attempt.number]));
    this.#last = attempt;
    this.#attempts = [];
  }

  /** A copy, which a later state does not change. */
  copy(): Expectation {
    const copy = new Expectation(new Map(), this.retention, this.identify);
    for (const [name, numbers] of this.#contents) copy.#contents.set(name, new Set(numbers));
    for (const [name, entry] of this.#foreign) copy.#foreign.set(name, entry);
    copy.#required = new Set(this.#required);
    copy.#last = this.#last;
    copy.#attempts = [...this.#attempts];
    return copy;
  }

  /** What is wrong with a folder, at any moment; empty if nothing is. */
  violations(listing: Listing): string[] {
    const found: string[] = [];
    for (const [name, entry] of listing) {
      if (!CHECKPOINT.test(name) || entry.kind === "folder") continue;
      const number = this.#numberOf(listing, name);
      if (number === null) found.push(`${name} does not load`);
      else if (!this.#contents.get(name)?.has(number)) {
        found.push(`${name} has the content of checkpoint ${number}, which was not saved there`);
      }
    }
    const leadsTo = this.#leadsTo(listing, found);
    const required = leadsTo === null || leadsTo === this.#last ? this.#required : this.#requiredBy(leadsTo, listing);
    for (const name of required) if (!listing.has(name)) found.push(`${name} is lost`);
    for (const [name, entry] of this.#foreign) if (!same(listing.get(name), entry)) found.push(`the user's ${name} is lost or changed`);
    for (const name of listing.keys()) {
      const known = name === POINTER || CHECKPOINT.test(name) || TEMPORARY.test(name) || this.#foreign.has(name);
      if (!known) found.push(`${name} has appeared`);
    }
    return found;
  }

  /** What is wrong with a folder after a save has ended well and nothing failed: exactly what is required must be there. */
  violationsAtRest(listing: Listing): string[] {
    const found = this.violations(listing);
    for (const [name, { kind }] of listing) {
      if (TEMPORARY.test(name)) found.push(`${name} is left behind`);
      if (CHECKPOINT.test(name) && kind !== "folder" && !this.#required.has(name)) found.push(`${name} should have been removed`);
    }
    if (!listing.has(POINTER)) found.push(`${POINTER} is missing`);
    return found;
  }

  #leadsTo(listing: Listing, found: string[]): Attempt | null {
    if (!listing.has(POINTER)) {
      if (this.#last !== null) found.push(`${POINTER} is lost`);
      return null;
    }
    const number = this.#numberOf(listing, POINTER);
    if (number === null) {
      found.push(`${POINTER} does not load`);
      return null;
    }
    const attempt = [this.#last, ...this.#attempts].find((each) => each?.number === number);
    if (attempt === undefined) found.push(`${POINTER} leads to checkpoint ${number}, neither the old nor the new one`);
    return attempt ?? null;
  }

  #requiredBy(newest: Attempt, listing: Listing): Set<string> {
    const { keep, keepEvery } = this.retention;
    const present = this.#attempts.map(({ name }) => name).filter((name) => listing.has(name));
    const all = [...new Set([...this.#required, ...present, newest.name])];
    const limit = progress(newest.name);
    const wholeFromNewest = all.filter((name) => isWhole(name) && progress(name) <= limit).sort((a, b) => progress(b) - progress(a));
    return new Set(all.filter((name) => {
      if (name === newest.name || progress(name) > limit) return true;
      if (!isWhole(name)) return false;
      if (keep == null && keepEvery == null) return true;
      if (keepEvery != null && Math.floor(progress(name)) % keepEvery === 0) return true;
      return wholeFromNewest.indexOf(name) < (keep ?? 1);
    }));
  }

  /** Number in the checkpoint that a name leads to, or null where it leads to no whole one. */
  #numberOf(listing: Listing, name: string): number | null {
    const entry = listing.get(name);
    const file = entry?.kind === "link" ? listing.get(entry.target) : entry;
    return file?.kind === "file" ? this.identify(file.bytes) : null;
  }
}

function isWhole(name: string): boolean {
  return CHECKPOINT.exec(name)?.[2] === undefined;
}

/** Epochs done, with a fraction for the steps. */
function progress(name: string): number {
  const [, epoch, step] = CHECKPOINT.exec(name)!;
  return step === undefined ? Number(epoch) + 1 : Number(epoch) + Number(step) / 1e6;
}

function same(a: Entry | undefined, b: Entry): boolean {
  if (a?.kind === "file" && b.kind === "file") return Buffer.from(a.bytes).equals(b.bytes);
  return a?.kind === b.kind && (a?.kind !== "link" || b.kind !== "link" || a.target === b.target);
}
