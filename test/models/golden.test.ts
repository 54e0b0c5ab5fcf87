import { describe } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { goldenModels, testModel } from "./compareGolden.js";

expectNoTensorsLeft();

describe.each(goldenModels)("%s", (model) => testModel(model, "cpu"));
