export { contrastiveLoss, singleProcess, type KeyGatherer } from "./contrastiveLoss.js";
export { GradientCache, type GradientCacheOptions } from "./gradientCache.js";
export { MLPHead, type MLPHeadOptions } from "./heads.js";
export { createMoCo, MoCo, MoCoError, type CreateMoCoOptions, type MoCoOptions } from "./moco.js";
export { projectorFromFile } from "./projector.js";
export { updateMomentumParameters } from "./momentumUpdate.js";
