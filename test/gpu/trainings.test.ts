/** The fixtures of six training steps and of the optimisers, computed on a GPU. */
import { beforeAll, describe } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { goldenTrainings, testTraining } from "../moco/goldenTraining.js";
import { optimizers, testOptimizer, type OptimizerFolder } from "../optim/goldenTrajectory.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

onGpu("on a GPU", () => {
  beforeAll(() => torch.setBackendFlags({ tf32: false }));

  describe.each(goldenTrainings)("%s", (folder) => testTraining(folder, gpu));
  describe.each(Object.keys(optimizers) as OptimizerFolder[])("optimiser %s", (folder) => testOptimizer(folder, gpu));
});
