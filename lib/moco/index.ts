export type { Views } from "./encodeViews.js";
export { GradientCache, type GradientCacheOptions } from "./gradientCache.js";
export { contrastiveLoss, singleProcess, type Contrast, type ContrastObserver, type KeyGatherer } from "./contrastiveLoss.js";
export { contrastStatistics, readContrastStatistics, STATISTICS_OF_A_CONTRAST, type ContrastFigures } from "./contrastStatistics.js";
export { MLPHead, type MLPHeadOptions } from "./heads.js";
export { createMoCo, MoCo, MoCoError, type CreateMoCoOptions, type MoCoOptions } from "./moco.js";
export { projectorFromFile } from "./projector.js";
export { updateMomentumParameters } from "./momentumUpdate.js";
export { StepMemory } from "./stepMemory.js";
