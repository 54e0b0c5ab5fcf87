import { describe } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { goldenTrainings, testTraining } from "./goldenTraining.js";

expectNoTensorsLeft();

describe.each(goldenTrainings)("%s", (folder) => testTraining(folder, "cpu"));
