export { CountProgress, formatDuration, TrainingProgress, type ProgressOptions } from "./progress.js";
export {
  readRunLog, RUN_LOG, RunLog, RunLogError,
  type BadImageEntry, type CheckpointEntry, type EndEntry, type EvaluationEntry, type KnnEntry, type LogEntry, type RunEntry, type RunRecord,
  type StepEntry,
} from "./runLog.js";
