export { CountProgress, formatDuration, TrainingProgress, type ProgressOptions } from "./progress.js";
export { readLatestRun, readRunLog, type RunRecord } from "./readRunLog.js";
export {
  RUN_LOG, RunLog, RunLogError,
  type BadImageEntry, type CheckpointEntry, type ContrastSignals, type EndEntry, type EvaluationEntry, type KnnEntry, type LayerNorms, type LogEntry,
  type RunEntry, type StepEntry, type StepSignals, type WarningEntry,
} from "./runLog.js";
