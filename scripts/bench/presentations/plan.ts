import type { Row } from "../plan.js";
import type { BenchmarkResult } from "../result.js";
import { factor, number } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

export function presentPlan({ raw }: BenchmarkResult): Presentation {
  const { cpu, gpu } = raw as { cpu: Row[]; gpu: Row[] };
  const rows = [...cpu.map((row) => ({ ...row, where: "CPU" })), ...gpu.map((row) => ({ ...row, where: "GPU" }))];
  const share = ({ predicted, measured }: Row["bytes"]): number => predicted / measured;
  return {
    title: "What --plan predicts",
    panels: [
      {
        title: "Prediction over measurement of a step", axis: "× what was measured (1 is right)", mark: 1, write: factor,
        bars: rows.flatMap((row) => {
          const group = `${row.arch}, batch ${row.batch}, ${row.where}`;
          return [bar(group, "memory", [share(row.bytes)]), bar(group, "time", [share(row.seconds)])];
        }),
      },
    ],
    columns: ["network", "batch", "on", "memory, GB: predicted", "measured", "predicted over measured", "step, s: predicted", "measured", "predicted over measured"],
    rows: rows.map(({ arch, batch, where, bytes, seconds }) => [
      arch, String(batch), where, number(bytes.predicted / 1e9), number(bytes.measured / 1e9), factor(share(bytes)), number(seconds.predicted),
      number(seconds.measured), factor(share(seconds)),
    ]),
  };
}
