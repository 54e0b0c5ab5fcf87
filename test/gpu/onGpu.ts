import { describe } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";

/** `describe` where libtorch sees a GPU; elsewhere its tests are counted as skipped. */
export const onGpu: typeof describe.skip = torch.cudaDeviceCount() > 0 ? describe : describe.skip;

export const gpu = "cuda:0";
