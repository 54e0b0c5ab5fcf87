import { describe } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { optimizers, testOptimizer, type OptimizerFolder } from "./goldenTrajectory.js";

expectNoTensorsLeft();

describe.each(Object.keys(optimizers) as OptimizerFolder[])("%s", (folder) => testOptimizer(folder, "cpu"));
