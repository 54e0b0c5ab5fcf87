/// <reference types="node" preserve="true" />
export { AdamW, type AdamWOptions } from "./adamw.js";
export { checkGradients, clipGradients, gradientNorm, nonFiniteGradients, tensorNorms, totalNorm, type GradientCheck } from "./gradients.js";
export { GradScaler, type GradScalerOptions, type GradScalerState, type ScalingState } from "./gradScaler.js";
export { LARS, type LARSOptions } from "./lars.js";
export {
  Optimizer,
  OptimizerOptionError,
  type OptimizerOptions,
  type OptimizerStateDict,
  type ParamGroup,
  type Params,
  type RatePlacement,
} from "./optimizer.js";
export {
  fineTuningRateAt,
  learningRateAt,
  momentumAt,
  probeLearningRateAt,
  scaledLearningRate,
  ScheduleError,
  type FineTuningSchedule,
  type LearningRateSchedule,
  type MomentumSchedule,
} from "./schedule.js";
export { OptimizerStateError, savedOptions } from "./savedState.js";
export { SGD, type SGDOptions } from "./sgd.js";
