export { CsvLogError, CsvLogger, type CsvLoggerOptions } from "./csvLogger.js";
export type { Histogram, LoggedPicture, LoggerSurroundings, LogPlace, RunLogger } from "./logger.js";
export { Loggers } from "./loggers.js";
export { MlflowError, type MlflowCredentials } from "./mlflow/mlflowClient.js";
export { MlflowLogger, type MlflowLoggerOptions } from "./mlflow/mlflowLogger.js";
export { CountProgress, formatDuration, TrainingProgress, type ProgressOptions } from "./progress.js";
export {
  readRunLog, RUN_LOG, RunLog, RunLogError,
  type BadImageEntry, type CheckpointEntry, type ContrastSignals, type EndEntry, type EvaluationEntry, type KnnEntry, type LayerNorms, type LogEntry,
  type RunEntry, type RunRecord, type StepEntry, type StepSignals, type WarningEntry,
} from "./runLog.js";
export { TensorBoardLogError, TensorBoardLogger, type TensorBoardLoggerOptions } from "./tensorboard/tensorBoardLogger.js";
