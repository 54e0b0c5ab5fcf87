import { basename, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { mlflowVariables } from "../../config.js";
import type { LoggerSurroundings, RunLogger } from "../logger.js";
import type { EndEntry, LogEntry, RunEntry } from "../runLog.js";
import { flatOptions, scalarsOf } from "../scalars.js";
import { MlflowClient, MlflowError, MlflowUnreachableError, type MlflowCredentials } from "./mlflowClient.js";
import { MLFLOW_FILE, MlflowRun, type Metric, type MlflowStatus } from "./mlflowRun.js";

/** Options of {@link MlflowLogger}. */
export interface MlflowLoggerOptions extends MlflowCredentials {
  /** The tracking server, such as `http://127.0.0.1:5000`. Default: `MLFLOW_TRACKING_URI`. */
  uri?: string;
  /** Is made where there is none. Default: `MLFLOW_EXPERIMENT_NAME`, or `"Default"`. */
  experiment?: string;
  /** Default: the name of the run's folder. */
  runName?: string;
  /** Seconds that values are gathered before they are sent. Default 5. */
  flushSeconds?: number;
  /** Seconds that one answer may take. Default 10. */
  requestSeconds?: number;
  /** Seconds from a failed try to the next; doubled each time, to a minute. Default 1. */
  retrySeconds?: number;
  /** Seconds that the end of the run may wait for what has not been sent. Default 10. */
  closeSeconds?: number;
  /** Values that wait for a server which does not answer; then the oldest ones are left out. Default 100,000. */
  mostWaiting?: number;
}

const LONGEST_WAIT_MS = 60_000;
const statusOf: Record<EndEntry["reason"], MlflowStatus> = { finished: "FINISHED", failed: "FAILED", interrupted: "KILLED", "stop-after": "KILLED" };

/**
 * Sends numbers and options of a run to an MLflow tracking server, in the background. A server that does not answer is asked again and again,
 * while values wait; one that refuses what it is asked for ends the logger. A run that is resumed goes on in the same MLflow run, which
 * `mlflow.json` in the run's folder names; values of steps that are done again are there twice, as MLflow takes none back.
 *
 * @example
 * await pretrain({ data: "photos", out: "runs/photos", loggers: [new MlflowLogger({ uri: "http://127.0.0.1:5000" })] });
 */
export class MlflowLogger implements RunLogger {
  readonly name = "MLflow";
  readonly #client: MlflowClient;
  readonly #options: Required<Omit<MlflowLoggerOptions, keyof MlflowCredentials | "uri" | "runName">>;
  #surroundings: LoggerSurroundings = { folder: null, warn: () => undefined };
  #begin: RunEntry | null = null;
  #end: { status: MlflowStatus; time: number } | null = null;
  #run: MlflowRun | null = null;
  #paramsSent = false;
  #waiting: Metric[] = [];
  #lost = 0;
  #working: Promise<void> | null = null;
  /** Cuts waits short once the run has ended. */
  readonly #closing = new AbortController();
  /** Ends requests too, once the end has taken too long. */
  readonly #halt = new AbortController();
  #told = false;
  /** Why nothing more is sent. */
  #refusal: Error | null = null;

  /** @throws MlflowError for a `uri` that is no address of a server */
  constructor(private readonly given: MlflowLoggerOptions = {}) {
    const variables = mlflowVariables();
    const { requestSeconds = 10, flushSeconds = 5, retrySeconds = 1, closeSeconds = 10, mostWaiting = 100_000 } = given;
    const { uri = variables.uri, experiment = variables.experiment ?? "Default" } = given;
    if (uri === null) throw new MlflowError("nothing says where MLflow is: give the address of its server, such as http://127.0.0.1:5000, or set MLFLOW_TRACKING_URI");
    this.#client = new MlflowClient(uri, { ...variables, ...given }, requestSeconds);
    this.#options = { requestSeconds, flushSeconds, retrySeconds, closeSeconds, mostWaiting, experiment };
  }

  start(surroundings: LoggerSurroundings): void {
    this.#surroundings = surroundings;
  }

  /** @throws what the server has refused meanwhile */
  log(entry: LogEntry): void {
    if (this.#refusal !== null) throw this.#refusal;
    if (entry.kind === "run") {
      this.#begin = entry;
      return this.#work();
    }
    if (entry.kind === "end") this.#end = { status: statusOf[entry.reason], time: Date.now() };
    const found = scalarsOf(entry, this.#begin?.stepsPerEpoch ?? 1);
    if (found === null) return;
    const timestamp = Date.now();
    for (const { tag, value } of found.scalars) {
      // JSON has no other numbers.
      if (Number.isFinite(value)) this.#waiting.push({ key: tag, value, timestamp, step: found.step });
    }
    const tooMany = this.#waiting.length - this.#options.mostWaiting;
    if (tooMany > 0) {
      this.#waiting.splice(0, tooMany);
      this.#lost += tooMany;
    }
    this.#work();
  }

  /** Sends what is left, for so long as `closeSeconds` allows. */
  async close(): Promise<void> {
    if (this.#begin === null || this.#refusal !== null) return;
    this.#closing.abort();
    const timer = setTimeout(() => this.#halt.abort(), 1000 * this.#options.closeSeconds);
    await this.#working;
    const done = await this.#sendLast();
    clearTimeout(timer);
    if (this.#refusal !== null) throw this.#refusal as Error;
    if (!done || this.#lost > 0) {
      const count = (this.#lost + this.#waiting.length).toLocaleString("en");
      this.#surroundings.warn(
        done ? `MLflow at ${this.#client.uri} lacks ${count} values of this run: it did not answer for too long`
          : `MLflow at ${this.#client.uri} did not take the end of this run and ${count} of its values; the run's log has them`,
      );
    }
  }

  /** Begins to send, where nobody does. */
  #work(): void {
    this.#working ??= this.#sendAll().finally(() => (this.#working = null));
  }

  async #sendAll(): Promise<void> {
    let wait = 1000 * this.#options.retrySeconds;
    while (!this.#closing.signal.aborted && this.#refusal === null) {
      try {
        await this.#send();
        wait = 1000 * this.#options.retrySeconds;
        await this.#pause(1000 * this.#options.flushSeconds);
        if (this.#waiting.length === 0) return;
      } catch (error) {
        if (!(error instanceof MlflowUnreachableError)) {
          this.#refusal = error as Error; // thrown by the next call
          return;
        }
        if (!this.#closing.signal.aborted) this.#tell(error);
        await this.#pause(wait);
        wait = Math.min(2 * wait, LONGEST_WAIT_MS);
      }
    }
  }

  /** One round of all that waits. */
  async #send(): Promise<void> {
    const { signal } = this.#halt;
    const { folder } = this.#surroundings;
    const begin = this.#begin!;
    this.#run ??= await MlflowRun.open(this.#client, {
      file: folder === null ? null : join(folder, MLFLOW_FILE),
      experiment: this.#options.experiment,
      name: this.given.runName ?? (folder === null ? null : basename(resolve(folder))),
      tags: { "mlflow.source.name": "moco-v3", device: begin.device, started: begin.started, ...(begin.resumedFrom ? { resumed_from: begin.resumedFrom } : {}) },
    }, signal);
    if (!this.#paramsSent) {
      await this.#run.logParams(flatOptions({ ...begin.options, ...prefixed("version.", begin.versions) }), signal);
      this.#paramsSent = true;
    }
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, MlflowRun.mostMetrics);
      try {
        await this.#run.logMetrics(batch, signal);
      } catch (error) {
        this.#waiting.unshift(...batch);
        throw error;
      }
    }
  }

  /** @returns whether the server has everything */
  async #sendLast(): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      try {
        await this.#send();
        const { status, time } = this.#end ?? { status: "FAILED" as const, time: Date.now() };
        await this.#run!.setStatus(status, time, this.#halt.signal);
        return true;
      } catch (error) {
        if (!(error instanceof MlflowUnreachableError)) {
          this.#refusal = error as Error;
          return false;
        }
        // One that has been away for long is not waited for: a run that is told to stop has little time.
        if (this.#told || tries === 3 || this.#halt.signal.aborted) return false;
        await delay(250 * 2 ** tries, undefined, { signal: this.#halt.signal }).catch(() => undefined);
      }
    }
  }

  /** Warned of once: a server may be away often in the days of a training. */
  #tell({ message }: Error): void {
    if (this.#told) return;
    this.#told = true;
    this.#surroundings.warn(`MLflow at ${this.#client.uri} cannot be reached: ${message}; the training goes on, and what it logs waits and is sent later`);
  }

  async #pause(milliseconds: number): Promise<void> {
    await delay(milliseconds, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined);
  }
}

function prefixed(prefix: string, values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [`${prefix}${key}`, value]));
}
