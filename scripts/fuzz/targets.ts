import { checkpointTarget } from "./checkpointTarget.js";
import type { FuzzTarget } from "./fuzzTarget.js";
import { safetensorsTarget } from "./safetensorsTarget.js";

/** The readers under test, by the names that `npm run fuzz` takes. */
export const targets: Readonly<Record<string, () => FuzzTarget>> = {
  checkpoint: checkpointTarget,
  safetensors: safetensorsTarget,
};
