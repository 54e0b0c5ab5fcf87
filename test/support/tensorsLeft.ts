import { afterAll, expect } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";

/** Lets a test file fail that ends with more live tensors than it began with. */
export function expectNoTensorsLeft(): void {
  const before = torch.memory().tensors;
  afterAll(() => expect(torch.memory().tensors).toBe(before));
}
