/** The models' fixtures, computed on a GPU. */
import { beforeAll, describe } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { goldenModels, testModel } from "../models/compareGolden.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

onGpu("on a GPU", () => {
  // With TF32's 10 bits nothing agrees to more than three digits.
  beforeAll(() => torch.setBackendFlags({ tf32: false }));

  describe.each(goldenModels)("%s", (model) => testModel(model, gpu));
});
