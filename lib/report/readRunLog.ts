import { LogTail } from "./logTail.js";
import {
  RUN_LOG, RunLogError, type BadImageEntry, type CheckpointEntry, type EndEntry, type EvaluationEntry, type KnnEntry, type LogEntry, type RunEntry,
  type StepEntry, type WarningEntry,
} from "./runLog.js";

/** What a log tells, put in order. */
export interface RunRecord {
  /** The run's beginning, and each time it was resumed. */
  runs: RunEntry[];
  /** By step. Steps that a resumed run did again are there once, as they went the last time. */
  steps: StepEntry[];
  /** By epoch; each as it went the last time. */
  evaluations: EvaluationEntry[];
  badImages: BadImageEntry[];
  checkpoints: CheckpointEntry[];
  /** By epoch; each as it went the last time. */
  knn: KnnEntry[];
  warnings: WarningEntry[];
  /** How the run ended, or null while it runs or where it was killed. */
  end: EndEntry | null;
}

/**
 * Reads a run's log. A last line that was cut off is left out, as what a power cut left of lines is; so are lines of kinds that this version does not know.
 *
 * @throws RunLogError when the file cannot be read, does not begin as a log does, or has a line inside that is not JSON
 * @example
 * const { steps } = readRunLog("runs/resnet50/log.jsonl");
 * const losses = steps.map(({ loss }) => loss);
 */
export function readRunLog(path: string): RunRecord {
  const record: RunRecord = { runs: [], steps: [], evaluations: [], badImages: [], checkpoints: [], knn: [], warnings: [], end: null };
  const tail = new LogTail(path);
  for (const entries of tail.read()) for (const entry of entries) addTo(record, entry);
  for (const entry of tail.last()) addTo(record, entry);
  if (record.runs.length === 0) {
    throw new RunLogError(`${path} has no line that begins a run; give the ${RUN_LOG} that "moco pretrain" wrote`);
  }
  return record;
}

/**
 * How a run last began: its options, versions and device. Reads the log piece by piece, and keeps nothing else of it.
 *
 * @throws RunLogError as {@link readRunLog}
 */
export function readLatestRun(path: string): RunEntry {
  let latest: RunEntry | null = null;
  for (const entries of new LogTail(path).read()) for (const entry of entries) if (entry.kind === "run") latest = entry;
  if (latest === null) throw new RunLogError(`${path} has no line that begins a run; give the ${RUN_LOG} that "moco pretrain" wrote`);
  return latest;
}

function addTo(record: RunRecord, entry: LogEntry): void {
  // A checkpoint may still have been on its way to the disk when the run failed.
  if (entry.kind !== "end" && entry.kind !== "checkpoint") record.end = null;
  switch (entry.kind) {
    case "run":
      record.runs.push(entry);
      // A run that was killed is resumed from its last checkpoint; what came after that was lost.
      record.steps = record.steps.filter(({ step }) => step < entry.firstStep);
      record.warnings = record.warnings.filter(({ step }) => step < entry.firstStep);
      record.evaluations = record.evaluations.filter(({ epoch }) => (epoch + 1) * entry.stepsPerEpoch <= entry.firstStep);
      record.knn = record.knn.filter(({ epoch }) => (epoch + 1) * entry.stepsPerEpoch <= entry.firstStep);
      break;
    case "step":
      // The line that would tell of the resumption may be lost in a power cut.
      while (record.steps.length > 0 && record.steps.at(-1)!.step >= entry.step) record.steps.pop();
      record.steps.push(entry);
      break;
    case "evaluation": record.evaluations.push(entry); break;
    case "badImage": record.badImages.push(entry); break;
    case "checkpoint": record.checkpoints.push(entry); break;
    case "knn": record.knn.push(entry); break;
    case "warning": record.warnings.push(entry); break;
    case "end": record.end = entry; break;
  }
}
