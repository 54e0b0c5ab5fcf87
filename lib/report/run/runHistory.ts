import type { CheckpointEntry, EndEntry, EvaluationEntry, KnnEntry, LogEntry, RunEntry, StepEntry } from "../runLog.js";
import { StepColumns } from "./stepColumns.js";

/** Something that happened in a run, at a step. */
export interface RunEvent {
  kind: "resumed" | "warning" | "spike" | "checkpoint" | "bad-image";
  /** Steps that were done then. */
  step: number;
  text: string;
}

/** An image that was left out. */
export interface LeftOut {
  path: string;
  reason: string;
}

/** All that a report tells of a run, gathered from its log line by line. It grows by its steps' figures, not by the log's text. */
export class RunHistory {
  /** The run's beginning, and how it last began: options and versions may differ. Null before the log's first line. */
  first: RunEntry | null = null;
  latest: RunEntry | null = null;
  readonly steps = new StepColumns();
  evaluations: EvaluationEntry[] = [];
  knn: KnnEntry[] = [];
  badImages: LeftOut[] = [];
  end: EndEntry | null = null;
  /** Steps with an alert of the watch. */
  alerts = 0;
  /** Goes up whenever steps that were known are given up. */
  generation = 0;
  #events: RunEvent[] = [];
  #checkpoints: CheckpointEntry[] = [];

  /** Number of times the run was resumed. */
  get resumptions(): number {
    return this.#events.filter(({ kind }) => kind === "resumed").length;
  }

  get checkpoints(): readonly CheckpointEntry[] {
    return this.#checkpoints;
  }

  /** By step. */
  get events(): RunEvent[] {
    const saved = this.#checkpoints.map(({ file, steps }): RunEvent => ({ kind: "checkpoint", step: steps, text: file }));
    return [...saved, ...this.#events].sort((a, b) => a.step - b.step);
  }

  /** Steps done. */
  get stepsDone(): number {
    const { length } = this.steps;
    return length === 0 ? (this.latest?.firstStep ?? 0) : this.steps.step(length - 1) + 1;
  }

  /** Steps of the whole run; 0 where the log does not tell. */
  get stepsPlanned(): number {
    return (this.latest?.epochs ?? 0) * (this.latest?.stepsPerEpoch ?? 0);
  }

  add(entry: LogEntry): void {
    // A checkpoint may still have been on its way to the disk when the run failed.
    if (entry.kind !== "end" && entry.kind !== "checkpoint") this.end = null;
    switch (entry.kind) {
      case "run": return this.#begin(entry);
      case "step": return this.#step(entry);
      case "evaluation": this.evaluations.push(entry); break;
      case "knn": this.knn.push(entry); break;
      case "badImage":
        this.badImages.push({ path: String(entry.path), reason: String(entry.reason) });
        this.#events.push({ kind: "bad-image", step: this.stepsDone, text: `${entry.path}: ${entry.reason}` });
        break;
      case "checkpoint": this.#checkpoints.push(entry); break;
      case "warning": this.#events.push({ kind: "warning", step: (entry.step ?? 0) + 1, text: String(entry.message) }); break;
      case "end": this.end = entry; break;
    }
  }

  #begin(entry: RunEntry): void {
    const { firstStep = 0, stepsPerEpoch = 0, resumedFrom } = entry;
    if (this.latest !== null && firstStep === 0) this.#beginAnew();
    this.first ??= entry;
    if (this.latest !== null) {
      // A run that was killed is resumed from its last checkpoint; what came after that was lost.
      if (this.steps.truncate(firstStep)) this.generation++;
      const kept = ({ epoch }: { epoch: number }): boolean => (epoch + 1) * stepsPerEpoch <= firstStep;
      this.evaluations = this.evaluations.filter(kept);
      this.knn = this.knn.filter(kept);
      this.#checkpoints = this.#checkpoints.filter(({ steps }) => steps <= firstStep);
      // An image that cannot be read is told of only once.
      this.#events = this.#events.filter(({ step, kind }) => step <= firstStep || kind === "bad-image")
        .map((event) => ({ ...event, step: Math.min(event.step, firstStep) }));
    }
    if (this.latest !== null || firstStep > 0) {
      const from = resumedFrom === null || resumedFrom === undefined ? "" : ` from ${resumedFrom}`;
      this.#events.push({ kind: "resumed", step: firstStep, text: `resumed at step ${firstStep.toLocaleString("en")}${from}` });
    }
    this.latest = entry;
  }

  /** Another training in the same folder: nothing of the one before holds for it. */
  #beginAnew(): void {
    this.steps.truncate(0);
    [this.evaluations, this.knn, this.badImages, this.#events, this.#checkpoints] = [[], [], [], [], []];
    this.first = this.latest = null;
    this.alerts = 0;
    this.generation++;
  }

  #step(entry: StepEntry): void {
    if (!Number.isFinite(entry.step)) return;
    // The line that would tell of the resumption may be lost in a power cut.
    if (this.steps.add(entry)) this.generation++;
    const alerts = entry.signals?.alerts ?? [];
    if (alerts.length > 0) this.alerts++;
    if (entry.action !== undefined) {
      const answer = entry.action === "skipped" ? "step left out" : "went back to an earlier state";
      this.#events.push({ kind: "spike", step: entry.step + 1, text: [answer, ...alerts].join(": ") });
    }
  }
}
