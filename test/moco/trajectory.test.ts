import { describe } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { goldenTrainings, testTraining } from "./goldenTraining.js";

expectNoTensorsLeft();

describe.each(goldenTrainings)("%s", (folder) => testTraining(folder, "cpu"));

// The batch has 8 images: two chunks and a smaller one.
describe("moco/vit_adamw in chunks of 3", () => testTraining("moco/vit_adamw", "cpu", 3));
