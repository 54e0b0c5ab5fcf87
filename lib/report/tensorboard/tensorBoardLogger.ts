import { mkdirSync, readdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Histogram, LoggedPicture, LoggerSurroundings, LogPlace, RunLogger } from "../logger.js";
import type { EndEntry, LogEntry, RunEntry } from "../runLog.js";
import { flatOptions, scalarsOf } from "../scalars.js";
import {
  fileVersionEvent, histogramEvent, hparamsEvent, imageEvent, scalarsEvent, sessionEndEvent, sessionStartEvent, textEvent, type EventHead,
} from "./eventMessages.js";
import { RecordFile } from "./recordFile.js";

/** Event files cannot be written. */
export class TensorBoardLogError extends Error {
  override readonly name = "TensorBoardLogError";
}

/** Options of {@link TensorBoardLogger}. */
export interface TensorBoardLoggerOptions {
  /** Folder for the event files. Default: the run's folder, so that `tensorboard --logdir runs` shows each run under its name. */
  folder?: string;
}

const FILE_NAME = /^events\.out\.tfevents\.(\d{10})\./;

/**
 * Writes what TensorBoard shows: numbers (`train/loss`, `train/lr`, `knn/acc1` and so on), pictures, histograms, the options as text and as
 * hyperparameters, warnings as text. A run that is resumed begins another file, at whose beginning TensorBoard drops what earlier ones tell
 * of steps that are done again.
 *
 * @example
 * await pretrain({ data: "photos", out: "runs/photos", loggers: [new TensorBoardLogger()] }); // tensorboard --logdir runs
 */
export class TensorBoardLogger implements RunLogger {
  readonly name = "the TensorBoard log";
  #folder: string | null;
  #file: RecordFile | null = null;
  #stepsPerEpoch = 1;
  #step = 0;

  constructor({ folder }: TensorBoardLoggerOptions = {}) {
    this.#folder = folder ?? null;
  }

  start({ folder }: LoggerSurroundings): void {
    this.#folder ??= folder;
    if (this.#folder === null) throw new TensorBoardLogError("the run has no folder, so its events need one: give the logger a folder, or the run");
  }

  log(entry: LogEntry): void {
    if (entry.kind === "run") return this.#open(entry);
    const found = scalarsOf(entry, this.#stepsPerEpoch);
    if (found !== null) {
      this.#step = found.step;
      this.#file?.write(scalarsEvent(this.#head(found.step), found.scalars));
    } else if (entry.kind === "warning") {
      this.#file?.write(textEvent(this.#head(entry.step), "warnings", entry.message));
    } else if (entry.kind === "end") {
      this.#end(entry);
    }
  }

  images(tag: string, picture: LoggedPicture, { step }: LogPlace): void {
    this.#file?.write(imageEvent(this.#head(step), tag, picture));
  }

  histogram(tag: string, histogram: Histogram, { step }: LogPlace): void {
    this.#file?.write(histogramEvent(this.#head(step), tag, histogram));
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
  }

  #open(run: RunEntry): void {
    const folder = this.#folder!;
    this.close();
    this.#stepsPerEpoch = run.stepsPerEpoch;
    mkdirSync(folder, { recursive: true });
    const seconds = readdirSync(folder).flatMap((name) => Number(FILE_NAME.exec(name)?.[1] ?? []));
    // TensorBoard reads the files in the order of their names: one that follows within the same second must come after.
    const time = Math.max(Math.floor(Date.now() / 1000), ...seconds.map((each) => each + 1));
    this.#file = new RecordFile(join(folder, `events.out.tfevents.${time}.${hostname()}.${process.pid}.0`));
    this.#file.write(fileVersionEvent(this.#head(0)));
    if (seconds.length > 0 || run.firstStep > 0) this.#file.write(sessionStartEvent(this.#head(run.firstStep)));
    const options = flatOptions(run.options);
    this.#file.write(hparamsEvent(this.#head(run.firstStep), options));
    this.#file.write(textEvent(this.#head(run.firstStep), "options", optionsTable(options)));
  }

  #end({ reason, message }: EndEntry): void {
    if (message !== undefined) this.#file?.write(textEvent(this.#head(this.#step), "warnings", message));
    // A run that was stopped to go on later has not ended.
    if (reason === "finished") this.#file?.write(sessionEndEvent(this.#head(this.#step), "success"));
    if (reason === "failed") this.#file?.write(sessionEndEvent(this.#head(this.#step), "failure"));
  }

  #head(step: number): EventHead {
    return { wallTime: Date.now() / 1000, step };
  }
}

/** Markdown. */
function optionsTable(options: ReturnType<typeof flatOptions>): string {
  const rows = options.map(([name, value]) => `| ${name} | ${String(value).replaceAll("|", String.raw`\|`)} |`);
  return ["| option | value |", "| --- | --- |", ...rows].join("\n");
}
