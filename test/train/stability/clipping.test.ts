/** Clipping in pre-training, seen in the optimiser's first moments: a tenth of the gradient after one step of AdamW. */
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { withFolder } from "../../data/pixels.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { runTiny } from "../tinyRun.js";

expectNoTensorsLeft();

async function firstStep(clipGrad: number | undefined, watch: boolean): Promise<{ logged: number; used: number }> {
  let used = 0;
  let logged = 0;
  await withFolder({}, async (out) => {
    const { steps } = await runTiny({ out, stopAfter: 1, clipGrad, watch });
    logged = steps[0]!.gradientNorm!;
    const value = await readCheckpoint<{ optimizer: { state: Map<number, { exp_avg: Tensor }> } }>(join(out, "checkpoint_0000_step_000001.pth.tar"));
    for (const { exp_avg: moment } of value.optimizer.state.values()) for (const each of moment.data()) used += (10 * Number(each)) ** 2;
    disposeTensors(value);
  });
  return { logged, used: Math.sqrt(used) };
}

test.each([true, false])("shrinks the gradients to the norm, and logs that before (watched: %p)", async (watch) => {
  const plain = await firstStep(undefined, watch);
  expect(plain.used / plain.logged).toBeCloseTo(1, 4);
  const clipped = await firstStep(plain.logged / 4, watch);
  expect(clipped.logged).toBe(plain.logged);
  expect(clipped.used / (plain.logged / 4)).toBeCloseTo(1, 4);
  const above = await firstStep(2 * plain.logged, watch);
  expect(above).toEqual(plain);
});
