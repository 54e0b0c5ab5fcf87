import cliProgress from "cli-progress";
import type { StepEntry } from "./runLog.js";

/** What a progress line needs to know about the run. */
export interface ProgressOptions {
  epochs: number;
  stepsPerEpoch: number;
  /** Without a terminal: steps from one line to the next. */
  printEvery: number;
  /** Step after which the run stops, where that is not its end. */
  lastStep?: number;
  stream?: NodeJS.WriteStream;
}

/** Steps over which speed and waiting are averaged: long enough to be steady, short enough to follow a change. */
const AVERAGED_STEPS = 20;

const BAR_FORMAT = "epoch {epoch} [{bar}] {value}/{total}  {figures}";
/** For terminals in which the figures and a bar would not stand beside each other. */
const NARROW_FORMAT = "{epoch} {value}/{total} {figures}";
const NARROW_COLUMNS = 100;

/**
 * Shows a training run: on a terminal a bar for each epoch, which stays when the epoch is done; elsewhere a line every few steps.
 *
 * Written to standard error, so that results on standard output can be piped.
 */
export class TrainingProgress {
  readonly #options: ProgressOptions;
  readonly #stream: NodeJS.WriteStream;
  readonly #recent: StepEntry[] = [];
  #bar: cliProgress.SingleBar | null = null;
  #barEpoch = -1;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#stream = options.stream ?? process.stderr;
  }

  step(entry: StepEntry): void {
    if (this.#recent.push(entry) > AVERAGED_STEPS) this.#recent.shift();
    if (this.#stream.isTTY) this.#drawBar(entry);
    else if (entry.stepInEpoch % this.#options.printEvery === 0) this.#printLine(entry);
  }

  /** A line of its own, between the bars. */
  note(line: string): void {
    this.stop();
    this.#stream.write(`${line}\n`);
  }

  /** Leaves the line as it is; the next step begins another. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = null;
  }

  #drawBar(entry: StepEntry): void {
    const { epochs, stepsPerEpoch } = this.#options;
    const narrow = this.#stream.columns > 0 && this.#stream.columns < NARROW_COLUMNS;
    const payload = { epoch: `${entry.epoch + 1}/${epochs}`, figures: narrow ? this.#figuresThatFit(entry) : this.#figures(entry).join("  ") };
    if (this.#bar === null || this.#barEpoch !== entry.epoch) {
      this.stop();
      this.#barEpoch = entry.epoch;
      this.#bar = new cliProgress.SingleBar(
        { format: narrow ? NARROW_FORMAT : BAR_FORMAT, stream: this.#stream, hideCursor: true, barsize: 16, fps: 10 }, cliProgress.Presets.rect,
      );
      this.#bar.start(stepsPerEpoch, entry.stepInEpoch + 1, payload);
    } else {
      this.#bar.update(entry.stepInEpoch + 1, payload);
    }
    if (entry.stepInEpoch + 1 === stepsPerEpoch) this.stop();
  }

  #printLine(entry: StepEntry): void {
    const { epochs, stepsPerEpoch } = this.#options;
    const done = String(entry.stepInEpoch + 1).padStart(String(stepsPerEpoch).length);
    this.#stream.write(`epoch ${entry.epoch + 1}/${epochs}  step ${done}/${stepsPerEpoch}  ${this.#figures(entry).join("  ")}\n`);
  }

  /** The most telling figures, as many as a line has room for: what is unusual, the loss, the time left, then the others in their order. */
  #figuresThatFit(entry: StepEntry): string {
    const { epochs, stepsPerEpoch } = this.#options;
    const rank = (figure: string): number => ["!", "loss", "left"].findIndex((word) => figure.startsWith(word));
    const figures = this.#figures(entry);
    const ordered = [...figures.filter((each) => rank(each) >= 0).sort((a, b) => rank(a) - rank(b)), ...figures.filter((each) => rank(each) < 0)];
    let room = this.#stream.columns - 1 - `${entry.epoch + 1}/${epochs} ${stepsPerEpoch}/${stepsPerEpoch}`.length;
    const fitting = ordered.filter((figure) => (room -= figure.length + 1) >= 0);
    return fitting.join(" ");
  }

  #figures(entry: StepEntry): string[] {
    const { epochs, stepsPerEpoch, lastStep = epochs * stepsPerEpoch } = this.#options;
    const sum = (field: "stepMs" | "dataWaitMs"): number => this.#recent.reduce((total, each) => total + each[field], 0);
    const stepMs = sum("stepMs") / this.#recent.length;
    const images = entry.imagesPerSecond * entry.stepMs; // of one step, times 1000
    return [
      `loss ${entry.loss.toFixed(4)}`,
      `lr ${entry.lr === 0 ? 0 : entry.lr.toExponential(2)}`,
      ...(entry.momentum === undefined ? [] : [`m ${entry.momentum.toFixed(4)}`]),
      ...(entry.acc1 === undefined ? [] : [`acc@1 ${entry.acc1.toFixed(1)}%`]),
      `${significant(images / stepMs)} img/s`,
      `wait ${Math.round((100 * sum("dataWaitMs")) / sum("stepMs"))}%`,
      `left ${formatDuration(((lastStep - entry.step - 1) * stepMs) / 1000)}`,
      ...(entry.signals?.alerts ?? []).map((alert) => `! ${alert}`),
    ];
  }
}

/** Tenths of the whole after which a line is printed without a terminal. */
const LINES = 10;

/** Shows how far a count of images is: on a terminal a bar, elsewhere a line for each tenth. Written to standard error. */
export class CountProgress {
  readonly #stream: NodeJS.WriteStream;
  #bar: cliProgress.SingleBar | null = null;
  #printed = 0;

  /** @param label what is counted, such as `features of train` */
  constructor(private readonly label: string, { stream = process.stderr }: { stream?: NodeJS.WriteStream } = {}) {
    this.#stream = stream;
  }

  /** @param done of `all`; the last call has them equal */
  update(done: number, all: number): void {
    if (this.#stream.isTTY) {
      if (this.#bar === null) {
        const format = "{label} [{bar}] {value}/{total}";
        this.#bar = new cliProgress.SingleBar({ format, stream: this.#stream, hideCursor: true, barsize: 16, fps: 10 }, cliProgress.Presets.rect);
        this.#bar.start(all, done, { label: this.label });
      } else {
        this.#bar.update(done);
      }
      if (done >= all) this.stop();
      return;
    }
    const tenths = Math.floor((LINES * done) / all);
    if (tenths > this.#printed) this.#stream.write(`${this.label}  ${done}/${all}\n`);
    this.#printed = tenths;
  }

  /** Leaves the line as it is. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}

function significant(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(2);
}

/** Seconds as a person says them: `8s`, `3m 12s`, `2h 05m`, `4d 06h`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const pair = (large: number, largeUnit: string, small: number, smallUnit: string): string =>
    `${large}${largeUnit} ${String(small).padStart(2, "0")}${smallUnit}`;
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return pair(Math.floor(whole / 60), "m", whole % 60, "s");
  const minutes = Math.floor(whole / 60);
  if (minutes < 24 * 60) return pair(Math.floor(minutes / 60), "h", minutes % 60, "m");
  return pair(Math.floor(minutes / (24 * 60)), "d", Math.floor(minutes / 60) % 24, "h");
}
