/** Several processes train what one process trains on the whole batch; `npm run exactness` records the whole table. */
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { exactnessCases, IMAGES, STEPS, type CaseName } from "../../scripts/exactness/cases.js";
import { distance } from "../../scripts/exactness/compareRuns.js";
import { runRanks } from "../../scripts/exactness/runRanks.js";
import { writePieces } from "../../scripts/exactness/writePieces.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("exactness");

/** How much further from one process several may be in float32 than one in float32 is from one in float64, which is rounding. */
const FLOAT32_FACTOR = 10;

test("three processes are one, on photographs through the loader: ViTs, ConvStem and ResNet", async () => {
  const data = join(folder, "photos");
  await writePieces(data, IMAGES);
  const job = { data, out: folder, cases: Object.keys(exactnessCases) as CaseName[], precisions: ["fp64" as const, "fp32" as const] };
  const reference = await runRanks(job, 1);
  const runs = await runRanks(job, 3);
  for (const name of job.cases) {
    const [run, one] = [runs.get(`${name}, fp64`)!, reference.get(`${name}, fp64`)!];
    expect(run.losses).toHaveLength(STEPS);
    // It has learned something that could differ.
    expect(Math.abs(run.losses.at(-1)! / run.losses[0]! - 1)).toBeGreaterThan(1e-3);
    const { loss, weights, learned, worstTensor, worstKey } = distance(run, one);
    if (!(Math.max(loss, weights, learned, worstTensor) <= 1e-6)) throw new Error(JSON.stringify({ name, loss, weights, learned, worstTensor, worstKey }));

    const single = reference.get(`${name}, fp32`)!;
    const [found, rounding] = [distance(runs.get(`${name}, fp32`)!, single), distance(single, one)];
    for (const figure of ["loss", "weights", "learned"] as const) {
      expect(rounding[figure]).toBeGreaterThan(0);
      if (!(found[figure] <= FLOAT32_FACTOR * rounding[figure])) throw new Error(JSON.stringify({ name, figure, found, rounding }));
    }
    if (name === "ViT, frozen patch projection" || name === "ViT with ConvStem") {
      // Trainings that do not magnify what differs by rounding.
      expect(found.loss).toBeLessThan(1e-4);
      expect(found.weights).toBeLessThan(5e-3);
    }
  }
}, 300_000);
