import { checkpointName, type Position } from "../../lib/train/runs/checkpointFiles.js";
import { CheckpointSaveError } from "../../lib/train/runs/checkpointFolder.js";
import { Random } from "../fuzz/random.js";
import type { CheckpointContents } from "./checkpointContents.js";
import { crashStates } from "./crashStates.js";
import { Expectation } from "./expectation.js";
import { following, type Scenario } from "./scenarios.js";
import { SimulatedDisk, systemError, type DiskImage, type Decision, type Entry, type Listing, type Operation } from "./simulatedDisk.js";
import { Tally } from "./tally.js";
import { ours, type Writer } from "./writers.js";

const FOLDER = "/run";
/** Different checkpoints, more than are ever there at once. */
const NUMBERS = 120;

/** What goes wrong with one operation, other than that the process or the machine stops. */
const FAULTS = [
  "ENOSPC", "EIO", "EDQUOT", "EACCES", "EIO after the effect", "ENOSPC until space is freed", "EIO from then on", "short write",
  "short write, then ENOSPC",
] as const;
type Fault = (typeof FAULTS)[number];

/** Operations that need space. */
const GROWING: readonly Operation[] = ["create", "write", "symlink", "link"];

export interface SimulationOptions {
  /** Inject only every so many errors; 1 for all. Kills are always tried at every operation. */
  every?: number;
  /** Crash states from which, one in so many, a next run is disturbed too. */
  secondRunEvery?: number;
  seed?: number;
  /** Stop at the first violation that this describes. */
  until?: RegExp;
}

class Found extends Error {}

/** A moment of a run, just before an operation. */
interface Moment {
  image: DiskImage;
  expected: Expectation;
  operation: string;
}

/** Simulates one scenario with every fault at every operation, and counts what went wrong. */
export class Simulation {
  readonly #random: Random;
  #nextNumber = 0;
  /** States from which a next run was tried. */
  readonly #tried = new Set<string>();
  #errorsSeen = 0;
  #statesSeen = 0;

  constructor(
    private readonly scenario: Scenario, private readonly contents: CheckpointContents, private readonly tally: Tally,
    private readonly writer: Writer = ours, private readonly options: SimulationOptions = {},
  ) {
    this.#random = new Random(options.seed ?? 1, 0);
  }

  /** @returns whether the violation that `until` describes was found */
  async run(): Promise<boolean> {
    try {
      await this.#all();
      return false;
    } catch (error) {
      if (error instanceof Found) return true;
      throw error;
    }
  }

  async #all(): Promise<void> {
    const start = await this.#start();
    const { moments, boundaries } = await this.#undisturbed(start, this.scenario.saves);
    for (const moment of moments) await this.#kill(moment, true);
    for (const [i, { image, expected }] of boundaries.entries()) {
      const rest = this.scenario.saves.slice(i, i + 2);
      const operations: Operation[] = [];
      await this.#disturbed(image, expected.copy(), rest, "none", -1, operations);
      for (const [at, operation] of operations.entries()) {
        for (const fault of FAULTS) {
          if (fault.startsWith("short") && operation !== "write") continue;
          if (fault.includes("until") && !GROWING.includes(operation)) continue;
          if (this.#errorsSeen++ % (this.options.every ?? 1) === 0) await this.#disturbed(image, expected.copy(), rest, fault, at);
        }
      }
    }
  }

  /** The folder before the run: the user's files, what a killed run left, perhaps another run's checkpoints. */
  async #start(): Promise<Listing> {
    const text = (content: string): { kind: "file"; bytes: Uint8Array } => ({ kind: "file", bytes: Buffer.from(content) });
    const start: Listing = new Map([
      ["log.jsonl", text("{}\n")], ["checkpoint_0001.pth.tar.bak", text("mine")], [".checkpoint_0001.pth.tar.swp", text("mine too")],
      [".checkpoint_0000.pth.tar.00000000-1-00000000.tmp", text("half a checkpoint")],
    ]);
    for (const position of this.scenario.before) {
      start.set(checkpointName(position), { kind: "file", bytes: await this.contents.bytes(++this.#nextNumber) });
    }
    const newest = this.scenario.before.at(-1);
    if (newest !== undefined) start.set("last.pth.tar", { kind: "link", target: checkpointName(newest) });
    return start;
  }

  /** Saves at every position and remembers each moment, and the state before each save. */
  async #undisturbed(
    start: Listing, positions: readonly Position[], remembers = true,
  ): Promise<{ moments: Moment[]; boundaries: Moment[] }> {
    const disk = new SimulatedDisk(start);
    const expected = new Expectation(start, this.scenario.retention, (bytes) => this.contents.identify(bytes));
    const moments: Moment[] = [];
    const remember = (operation: string): Moment => ({ image: disk.image(), expected: expected.copy(), operation });
    disk.before = this.#limits((operation, path) => {
      if (remembers) moments.push(remember(`${operation} ${path}`));
    });
    const run = await this.writer(FOLDER, this.scenario.retention, disk);
    const boundaries: Moment[] = [];
    for (const position of positions) {
      boundaries.push(remember("save"));
      const { bytes, number } = await this.#begin(position, expected, disk);
      await run.save(position, bytes, number);
      expected.saved(disk.listing());
      this.#report("nothing", checkpointName(position), expected.violationsAtRest(disk.listing()));
    }
    moments.push(remember("the end"));
    return { moments, boundaries };
  }

  /** The process or the machine stops at a moment: what the disk may hold then, and what the next run makes of it. */
  async #kill({ image, expected, operation }: Moment, first: boolean): Promise<void> {
    this.tally.count(first ? "kill" : "kill of the next run");
    for (const state of crashStates(image, this.#random)) {
      this.tally.states++;
      this.#report(first ? "kill" : "kill of the next run", operation, expected.violations(state));
      const key = [...state].map(([name, entry]) => `${name}=${this.#identity(entry)}`).sort().join(" ");
      if (!first || this.#tried.has(key)) continue;
      this.#tried.add(key);
      await this.#goOn(state, operation, this.#statesSeen++ % (this.options.secondRunEvery ?? 25) === 0);
    }
  }

  /** A next run, which goes on from the furthest checkpoint. */
  async #goOn(state: Listing, after: string, killAgain: boolean): Promise<void> {
    const furthest = [...state.keys()].flatMap((name) => /^checkpoint_(\d+)/.exec(name)?.[1] ?? []).map(Number);
    const positions = following(furthest.length === 0 ? null : { epoch: Math.max(...furthest) + 1, step: 0 }, killAgain ? 2 : 1);
    try {
      const { moments } = await this.#undisturbed(state, positions, killAgain);
      this.tally.nextRuns++;
      if (killAgain) for (const moment of moments) await this.#kill(moment, false);
    } catch (error) {
      if (error instanceof Found) throw error;
      this.#report("next run", after, [`the next run fails: ${(error as Error).message}`]);
    }
  }

  /** Saves the first position while operation number `at` goes wrong, then, with a disk in order, the second. */
  async #disturbed(
    image: DiskImage, expected: Expectation, [position, next]: Position[], fault: Fault | "none", at: number, operations: Operation[] = [],
  ): Promise<void> {
    const disk = new SimulatedDisk(image);
    let failing = true;
    let failed: string | null = null;
    let place = "";
    disk.before = this.#limits((operation, path) => {
      const index = operations.push(operation) - 1;
      if (!failing || index < at || at < 0) return undefined;
      if (index === at) place = `${operation} ${path}`;
      const decision = decide(fault, operation, index - at);
      if (decision?.error) failed = (decision.error as NodeJS.ErrnoException).code ?? null;
      return decision;
    });
    const report = (violations: string[]): void => this.#report(fault, place, violations);
    if (fault !== "none") this.tally.count(fault);
    const { bytes, number } = await this.#begin(position!, expected, disk);
    let error: unknown = null;
    try {
      const run = await this.writer(FOLDER, this.scenario.retention, disk);
      await run.save(position!, bytes, number);
    } catch (thrown) {
      error = thrown;
    }
    failing = false;
    if (fault === "none") return;
    const listing = disk.listing();
    if (error === null) expected.saved(listing);
    report(expected.violations(listing));
    if (error !== null) report(this.#wrongError(error, failed, listing));
    for (const state of crashStates(disk.image(), this.#random)) {
      this.tally.states++;
      report(expected.violations(state));
    }
    if (next === undefined) return;
    disk.before = this.#limits(() => undefined);
    try {
      const again = await this.writer(FOLDER, this.scenario.retention, disk);
      const { bytes, number } = await this.#begin(next, expected, disk);
      await again.save(next, bytes, number);
      this.tally.nextRuns++;
      expected.saved(disk.listing());
      report(expected.violationsAtRest(disk.listing()));
    } catch (thrown) {
      if (thrown instanceof Found) throw thrown;
      report([`the next save fails: ${(thrown as Error).message}`]);
    }
  }

  /** What is wrong with the error that a failing save has thrown. */
  #wrongError(error: unknown, injected: string | null, listing: Listing): string[] {
    if (injected === null) return [`it fails for no reason: ${(error as Error).message}`];
    if (!(error instanceof CheckpointSaveError)) {
      return (error as NodeJS.ErrnoException).code === injected ? [] : [`it throws another error: ${(error as Error).message}`];
    }
    const { kept, code } = error;
    if (code !== injected) return [`its error has the code ${code}`];
    if (kept === null) {
      const denies = error.message.includes("No checkpoint was there");
      return denies && listing.has("last.pth.tar") ? ["its error says that there was no checkpoint"] : [];
    }
    const entry = listing.get(kept.slice(FOLDER.length + 1));
    const loads = entry?.kind === "file" && this.contents.identify(entry.bytes) !== null;
    return loads ? [] : [`its error says that ${kept} is kept, which does not load`];
  }

  /** Bytes of a checkpoint unlike all that are on the disk. */
  async #begin(position: Position, expected: Expectation, disk: SimulatedDisk): Promise<{ bytes: Uint8Array; number: number }> {
    const present = new Set([...disk.listing().values()].map((entry) => this.#identity(entry)));
    do this.#nextNumber = (this.#nextNumber % NUMBERS) + 1;
    while (expected.knows(this.#nextNumber) || present.has(this.#nextNumber));
    const number = this.#nextNumber;
    expected.begins({ name: checkpointName(position), number });
    return { bytes: await this.contents.bytes(number), number };
  }

  #identity(entry: Entry): number | string {
    if (entry.kind !== "file") return entry.kind === "link" ? entry.target : "folder";
    return this.contents.identify(entry.bytes) ?? "no checkpoint";
  }

  /** Operations that the file system does not know fail. */
  #limits(before: (operation: Operation, path: string) => Decision | void): SimulatedDisk["before"] {
    const { links } = this.scenario;
    return (operation, path) => {
      const decision = before(operation, path);
      if (decision?.error) return decision;
      if (operation === "symlink" && links !== "symbolic") return { error: systemError("EPERM", "symlink") };
      if (operation === "link" && links === "none") return { error: systemError("ENOTSUP", "link") };
      return decision;
    };
  }

  #report(fault: string, place: string, violations: readonly string[]): void {
    for (const what of violations) {
      this.tally.violation({ where: this.scenario.name, fault, place, what });
      if (this.options.until?.test(what)) throw new Found();
    }
  }
}

/** @param since operations since the first that goes wrong */
function decide(fault: Fault | "none", operation: Operation, since: number): Decision | undefined {
  const error = (code: string): Decision => ({ error: systemError(code, operation) });
  switch (fault) {
    case "none": return undefined;
    case "ENOSPC until space is freed": return GROWING.includes(operation) ? error("ENOSPC") : undefined;
    case "EIO from then on": return error("EIO");
    case "short write, then ENOSPC": return since === 0 ? { short: true } : since === 1 ? error("ENOSPC") : undefined;
    case "short write": return since === 0 ? { short: true } : undefined;
    case "EIO after the effect": return since === 0 ? { ...error("EIO"), done: true } : undefined;
    default: return since === 0 ? error(fault) : undefined;
  }
}
