/// <reference types="node" preserve="true" />
// So in every file that the package exports: its declarations use Node.js' types, which compilers read only where they are told to.
/** MoCo v3 on libtorch: train an image encoder without labels, and use it. */
export { createMoCo, GradientCache, MoCo, type CreateMoCoOptions, type GradientCacheOptions } from "./moco/index.js";
export { createModel, architectures, type CreateModelOptions } from "./models/index.js";
export { Embedder, type EmbedderOptions, type EmbedOptions } from "./train/embedder/embedder.js";
export { EmbedderClosedError, EmbedError, EmbedQueueFullError } from "./train/embedder/errors.js";
export { FeatureError, FeatureExtractor, type FeatureLayer, type FeatureOptions } from "./train/features.js";
export { loadFrozenEncoder, type FrozenEncoder, type FrozenEncoderOptions } from "./train/frozenEncoder.js";
export { embeddingEndings, readEmbeddings, writeEmbeddings } from "./train/embeddings/embeddingFile.js";
export { EmbeddingFileError, type EmbeddingChunk, type EmbeddingRows, type Embeddings } from "./train/embeddings/embeddings.js";
export { embedImages, type EmbedImagesHooks, type EmbedImagesOptions, type EmbedImagesResult } from "./train/embedImages.js";
export { EmbedResumeError } from "./train/embeddings/partialEmbeddings.js";
export { evaluateKnn, type KnnEvaluation, type KnnEvaluationOptions, type KnnProgress } from "./train/knnEvaluation.js";
export type { KnnScore } from "./train/neighbours/knn.js";
export {
  NearestError, NearestImages, type DuplicateGroup, type DuplicateOptions, type Neighbour, type NearestOptions, type NearestProgress,
} from "./train/neighbours/nearest.js";
export {
  findDuplicates, searchImages, type ComparedImagesOptions, type DuplicatesResult, type SearchImagesOptions, type SearchResult,
} from "./train/searchImages.js";
export { TooManyPairsError } from "./train/neighbours/similarPairs.js";
export { IndexFileError, MissingPackageError } from "./train/neighbours/approximateIndex.js";
export { pretrain, type PretrainHooks, type PretrainResult } from "./train/pretrain.js";
export { finetune, type FinetuneResult } from "./train/finetune.js";
export { evaluateFinetuned, type EvaluateFinetunedOptions, type FinetunedEvaluation } from "./train/finetuning/evaluateFinetuned.js";
export type { FinetuneOptions } from "./train/finetuning/finetuneOptions.js";
export type { SupervisedHooks } from "./train/runs/supervisedRecorder.js";
export { linearProbe, type LinearProbeHooks, type LinearProbeResult } from "./train/linear.js";
export type { LinearProbeOptions } from "./train/linearProbe/linearOptions.js";
export type { HeadResult } from "./train/linearProbe/headRace.js";
export { FrozenWeightsError } from "./train/linearProbe/frozenWeights.js";
export {
  evaluateClassifier, EvaluationError, type EvaluateOptions, type Evaluation,
} from "./train/evaluateClassifier.js";
export { planPretraining, type PlanHooks, type PretrainPlan } from "./train/planning/planPretraining.js";
export { OptionError, type Precision } from "./train/options.js";
export type { PretrainOptions } from "./train/pretrainOptions.js";
export { CheckpointSaveError } from "./train/runs/checkpointFolder.js";
export { ResumeError } from "./train/runs/resumable.js";
export { NonFiniteError } from "./train/runs/finiteGuard.js";
export { SpikeLimitError } from "./train/stability/spikePolicy.js";
export { replayStep, ReplayError, type Replay, type ReplayOptions } from "./train/stability/replayStep.js";
export { writeAugmentReport, type AugmentReport } from "./report/augmentReport.js";
export { ReportFileError } from "./report/reportFile.js";
export type { Figure } from "./report/figure.js";
export { writeRunReport, type RunReport } from "./report/run/runReport.js";
export { ReportServer, ReportServerError, type ServeOptions } from "./report/run/serveRuns.js";
export { figurePage } from "./report/pictures/figurePage.js";
export { filterFigure, type FilterFigureOptions } from "./report/pictures/filterFigure.js";
export { writePositionPicture } from "./report/pictures/positionFile.js";
export { positionSimilarities, sineCosineTable, type PositionTable } from "./report/pictures/positionTable.js";
export { similarityByDistance, type DistanceSimilarity } from "./report/pictures/similarityByDistance.js";
export { runPictures, type PicturedRun } from "./train/runPictures.js";
export { AugmentSheetError, type AugmentSheetOptions } from "./report/augmentSheet.js";
export {
  CsvLogError, CsvLogger, MlflowError, MlflowLogger, TensorBoardLogError, TensorBoardLogger, type CsvLoggerOptions, type Histogram, type LoggedPicture,
  type LoggerSurroundings, type LogEntry, type LogPlace, type MlflowLoggerOptions, type RunLogger, type TensorBoardLoggerOptions,
} from "./report/index.js";
export type { LoggingOptions } from "./train/runs/logging.js";
