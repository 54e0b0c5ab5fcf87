/** `npm run exactness`: what several processes train, beside what one trains on the whole batch. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { ensureReady } from "../../lib/setup/index.js";
import { describeRun, saveResult } from "../bench/result.js";
import { exactnessCases, IMAGES, STEPS, type CaseName } from "./cases.js";
import { distance, type Distance } from "./compareRuns.js";
import { runRanks } from "./runRanks.js";
import { writePieces } from "./writePieces.js";

/** What the table promises in float64. */
const LIMIT = 1e-6;
const PROCESSES = [2, 3, 4];

const program = new Command("exactness")
  .description(
    "Train each kind of network with 2, 3 and 4 processes over Gloo, on images through the loader, and compare losses and final weights with one " +
      "process on the whole batch; writes benchmarks/results/distributed-exactness.json.",
  )
  .option("--json", "print the result as JSON instead of writing it")
  .addHelpText("after", "\nExits with 1 where float64 is further off than 1e-6, relative.\n\nExample:\n  $ npm run exactness")
  .action(async ({ json }: { json?: boolean }) => {
    await ensureReady();
    const folder = mkdtempSync(join(tmpdir(), "moco-exactness-"));
    try {
      const data = join(folder, "photos");
      await writePieces(data, IMAGES);
      const job = { data, out: folder, cases: Object.keys(exactnessCases) as CaseName[], precisions: ["fp64", "fp32"] as ("fp64" | "fp32")[] };
      const reference = await runRanks(job, 1);
      const rows: ({ case: string; processes: number } & Distance)[] = [];
      for (const processes of PROCESSES) {
        process.stderr.write(`${processes} processes\n`);
        const runs = await runRanks(job, processes);
        for (const [name, run] of runs) rows.push({ case: name, processes, ...distance(run, reference.get(name)!) });
      }
      // What float32 itself is worth: how far one process in float32 is from one in float64.
      const float32 = job.cases.map((name) => ({ case: `${name}, fp32 against fp64`, processes: 1, ...distance(reference.get(`${name}, fp32`)!, reference.get(`${name}, fp64`)!) }));
      for (const row of [...rows, ...float32]) process.stdout.write(`${line(row)}\n`);
      const result = {
        ...describeRun("distributed-exactness", null, { steps: STEPS, images: IMAGES, batchSize: 12, backend: "gloo", transport: "loopback" }),
        command: "npm run exactness", limit: { fp64: LIMIT }, rows, float32,
      };
      process.stdout.write(json ? `${JSON.stringify(result)}\n` : `written to ${saveResult(result)}\n`);
      const far = rows.filter((row) => row.case.endsWith("fp64") && !(Math.max(row.loss, row.weights, row.learned, row.worstTensor) <= LIMIT));
      process.exitCode = far.length === 0 ? 0 : 1;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

function line({ case: name, processes, loss, weights, learned, worstTensor, worstKey }: { case: string; processes: number } & Distance): string {
  const figures = Object.entries({ loss, weights, learned, worst: worstTensor }).map(([what, value]) => `${what} ${value.toExponential(1)}`);
  return `${name.padEnd(36)} ${processes} processes  ${figures.join("  ")} (${worstKey})`;
}

await program.parseAsync();
