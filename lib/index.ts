/** MoCo v3 on libtorch: train an image encoder without labels, and use it. */
export { createMoCo, MoCo, type CreateMoCoOptions } from "./moco/index.js";
export { createModel, architectures, type CreateModelOptions } from "./models/index.js";
export { Embedder, EmbedError, type EmbedderOptions } from "./train/embedder.js";
export { embeddingEndings, readEmbeddings, writeEmbeddings } from "./train/embeddings/embeddingFile.js";
export { EmbeddingFileError, type EmbeddingChunk, type EmbeddingRows, type Embeddings } from "./train/embeddings/embeddings.js";
export { pretrain, type PretrainHooks, type PretrainResult } from "./train/pretrain.js";
export { finetune, type FinetuneResult } from "./train/finetune.js";
export { evaluateFinetuned, type EvaluateFinetunedOptions, type FinetunedEvaluation } from "./train/evaluateFinetuned.js";
export type { FinetuneOptions } from "./train/finetuneOptions.js";
export type { SupervisedHooks } from "./train/supervisedRecorder.js";
export { linearProbe, type LinearProbeHooks, type LinearProbeResult } from "./train/linear.js";
export type { LinearProbeOptions } from "./train/linearOptions.js";
export type { HeadResult } from "./train/headRace.js";
export { FrozenWeightsError } from "./train/frozenWeights.js";
export {
  evaluateClassifier, EvaluationError, type EvaluateOptions, type Evaluation,
} from "./train/evaluateClassifier.js";
export { OptionError, type Precision } from "./train/options.js";
export type { PretrainOptions } from "./train/pretrainOptions.js";
export { CheckpointSaveError } from "./train/checkpointFolder.js";
export { ResumeError } from "./train/resumable.js";
export { ReportFileError, writeAugmentReport, type AugmentReport } from "./report/augmentReport.js";
export { AugmentSheetError, type AugmentSheetOptions } from "./report/augmentSheet.js";
