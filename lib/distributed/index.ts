/// <reference types="node" preserve="true" />
/** Several processes that train together: how they meet, and what they do together. */
export { CollectiveError, RendezvousError } from "./errors.js";
export { PlacementError, type Backend, type Placement } from "./placement.js";
export { ProcessGroup, type JoinOptions, type Reduction } from "./processGroup.js";
export { Store, type StoreOptions } from "./store.js";
export { UNUSED_URL } from "./distUrl.js";
export { deviceOfMember, readPlacement, type PlacementFlags, type PlacementFound, type PlacementMachine, type Spawn } from "./readPlacement.js";
export { GradientAverager, type GradientAveragerOptions } from "./gradientAverager.js";
export { synchronizeBatchNorm } from "./syncBatchNorm.js";
