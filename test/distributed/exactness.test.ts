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

test("three processes are one, on photographs through the loader: ViTs, ConvStem and ResNet", async () => {
  const data = join(folder, "photos");
  await writePieces(data, IMAGES);
  const job = { data, out: folder, cases: Object.keys(exactnessCases) as CaseName[], precisions: ["fp64" as const] };
  const reference = await runRanks(job, 1);
  const runs = await runRanks(job, 3);
  for (const [name, run] of runs) {
    const { loss, weights, learned, worstTensor, worstKey } = distance(run, reference.get(name)!);
    expect(run.losses).toHaveLength(STEPS);
    // It has learned something that could differ.
    expect(Math.abs(run.losses.at(-1)! / run.losses[0]! - 1)).toBeGreaterThan(1e-3);
    const figures = { name, loss, weights, learned, worstTensor, worstKey };
    if (!(Math.max(loss, weights, learned, worstTensor) <= 1e-6)) throw new Error(JSON.stringify(figures));
  }
}, 120_000);
