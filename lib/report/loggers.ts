import { setTimeout as delay } from "node:timers/promises";
import type { Histogram, LoggedPicture, LoggerSurroundings, LogPlace, RunLogger } from "./logger.js";
import type { LogEntry } from "./runLog.js";

/** Calls that wait for a logger whose promises are slow; what comes on top is lost to it. */
const MOST_WAITING = 10_000;

/** How long the end of a training waits for one logger. */
const CLOSE_MS = 30_000;

/** Tells a run's loggers what happens, and keeps their failures from the training. */
export class Loggers {
  readonly #guards: readonly Guard[];

  constructor(loggers: readonly RunLogger[], surroundings: LoggerSurroundings, closeMs = CLOSE_MS) {
    this.#guards = loggers.map((logger) => new Guard(logger, surroundings, closeMs));
    this.#each((logger) => logger.start?.(surroundings));
  }

  /** Whether anybody takes pictures. */
  get takeImages(): boolean {
    return this.#guards.some((guard) => guard.takes("images"));
  }

  /** Whether anybody takes histograms. */
  get takeHistograms(): boolean {
    return this.#guards.some((guard) => guard.takes("histogram"));
  }

  log(entry: LogEntry): void {
    this.#each((logger) => logger.log(entry));
  }

  images(tag: string, picture: LoggedPicture, place: LogPlace): void {
    this.#each((logger) => logger.images?.(tag, picture, place));
  }

  histogram(tag: string, histogram: Histogram, place: LogPlace): void {
    this.#each((logger) => logger.histogram?.(tag, histogram, place));
  }

  /** Waits for all of them at once. Never throws. */
  async close(): Promise<void> {
    await Promise.all(this.#guards.map((guard) => guard.close()));
  }

  #each(call: (logger: RunLogger) => void | Promise<void>): void {
    for (const guard of this.#guards) guard.call(call);
  }
}

/** One logger, whose calls come one after another, and no more after one that fails. */
class Guard {
  /** Settles, never rejects, when the calls before have; null while none is under way. */
  #last: Promise<void> | null = null;
  #waiting = 0;
  #lost = 0;
  #off = false;

  constructor(private readonly logger: RunLogger, private readonly surroundings: LoggerSurroundings, private readonly closeMs: number) {}

  takes(method: "images" | "histogram"): boolean {
    return !this.#off && this.logger[method] !== undefined;
  }

  call(call: (logger: RunLogger) => void | Promise<void>): void {
    if (this.#off) return;
    if (this.#last === null) {
      try {
        const result = call(this.logger);
        if (isPromise(result)) this.#follow(result);
      } catch (error) {
        this.#fail(error);
      }
    } else if (this.#waiting < MOST_WAITING) {
      this.#follow(this.#last.then(() => (this.#off ? undefined : call(this.logger))));
    } else if (this.#lost++ === 0) {
      this.surroundings.warn(`${this.#name} does not keep up: ${MOST_WAITING.toLocaleString("en")} calls wait for it, so some are left out from here on`);
    }
  }

  async close(): Promise<void> {
    this.call((logger) => logger.close?.());
    if (this.#last === null) return;
    const late = new AbortController();
    const finished = this.#last.then(() => true);
    const inTime = await Promise.race([finished, delay(this.closeMs, false, { signal: late.signal })]);
    late.abort();
    if (!inTime) this.surroundings.warn(`${this.#name} was not done ${this.closeMs / 1000} s after the end, and is left behind`);
    this.#off = true;
  }

  #follow(promise: Promise<void>): void {
    this.#waiting++;
    const settled: Promise<void> = promise.catch((error: unknown) => this.#fail(error)).finally(() => {
      this.#waiting--;
      if (this.#last === settled) this.#last = null;
    });
    this.#last = settled;
  }

  #fail(error: unknown): void {
    if (this.#off) return;
    this.#off = true;
    const reason = error instanceof Error ? error.message : String(error);
    this.surroundings.warn(`${this.#name} fails and is switched off; the training goes on without it: ${reason}`);
    // It may hold a file open.
    void (async () => this.logger.close?.())().catch(() => undefined);
  }

  get #name(): string {
    const { name } = this.logger.constructor;
    return this.logger.name ?? (name === "Object" || name === "" ? "a logger" : name);
  }
}

function isPromise(value: unknown): value is Promise<void> {
  return typeof (value as Promise<void> | undefined)?.then === "function";
}
