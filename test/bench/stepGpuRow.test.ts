/** The GPU benchmark's logic, on sides that answer as told: a lent GPU's minutes are not for finding its mistakes. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { Ask, GpuRequest, GpuSetup, Side } from "../../scripts/bench/stepGpuProtocol.js";
import { checkSides } from "../../scripts/bench/stepGpuCheck.js";
import { measureRow, type Row, type RowPlan } from "../../scripts/bench/stepGpuRow.js";
import { KeptRows } from "../../scripts/bench/stepGpuRows.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const root = temporaryFolder("rows");
const plan: RowPlan = {
  arch: "vit_small", batch: 32, sides: ["ours", "oursGraph", "tuned", "upstream", "compiled"], setupOf: () => ({}) as GpuSetup, rounds: 3,
  secondsAtOnce: 1, patience: (side) => (side === "compiled" ? 600 : 60), withProfile: false,
};

/** Sides that take a tenth of a second for a step, but for what `refuse` says. */
function stubSides(refuse: (side: Side, request: GpuRequest, beside: readonly Side[]) => "memory" | "break" | null) {
  const log: string[] = [];
  const live = new Set<Side>();
  const ask = (async (side, request, seconds) => {
    log.push(`${side} ${request.do}${request.do === "measure" ? ` ${request.steps}` : ""}${seconds === undefined ? "" : ` ≤ ${seconds} s`}`);
    const refusal = refuse(side, request, [...live].filter((each) => each !== side));
    if (refusal !== null) live.delete(side);
    if (refusal === "break") throw new Error("CUDA error: an illegal instruction\nand a trace");
    if (refusal === "memory") return { outOfMemory: true };
    if (request.do === "setup") live.add(side);
    if (request.do === "drop") live.delete(side);
    return { seconds: 0.1, loss: 1, peakBytes: 1e9, reservedBytes: 2e9 };
  }) as Ask;
  return { ask, log, live };
}

async function run(sides: ReturnType<typeof stubSides>, row: Row = {}, changes: Partial<RowPlan> = {}) {
  const kept: string[][] = [];
  const said: string[] = [];
  await measureRow(sides.ask, { ...plan, ...changes }, row, (each) => kept.push(Object.keys(each)), (text) => said.push(text));
  return { row, kept, said };
}

test("sides take turns, and what compiles has its time", async () => {
  const sides = stubSides(() => null);
  const { row, kept } = await run(sides);
  expect(sides.log.slice(0, 8)).toEqual([
    "ours setup ≤ 60 s", "ours measure 2", "oursGraph setup ≤ 60 s", "oursGraph measure 2", "tuned setup ≤ 60 s", "tuned measure 2", "upstream setup ≤ 60 s",
    "upstream measure 2",
  ]);
  expect(sides.log.slice(8, 12)).toEqual(["ours measure 10", "oursGraph measure 10", "tuned measure 10", "upstream measure 10"]);
  expect(sides.log.slice(24)).toEqual([ // after those were dropped
    "ours setup ≤ 60 s", "ours measure 2", "compiled setup ≤ 600 s", "compiled measure 2",
    ...[1, 2, 3].flatMap(() => ["ours measure 10", "compiled measure 10"]), "ours drop", "compiled drop",
  ]);
  expect(row.compiled!.oursBeside).toEqual([0.1, 0.1, 0.1]);
  expect(row.ours).toEqual({ seconds: [0.1, 0.1, 0.1], imagesPerSecond: 320, peakBytes: 1e9, reservedBytes: 2e9, setupSeconds: 0.1 });
  expect(kept).toEqual([["ours", "oursGraph", "tuned", "upstream"], ["ours", "oursGraph", "tuned", "upstream", "compiled"]]);
  expect(sides.live.size).toBe(0);
});

test("a side that finds no memory beside the others is measured alone; one that finds none alone is noted for good", async () => {
  const sides = stubSides((side, request, beside) =>
    (request.do === "setup" && ((side === "upstream" && beside.length > 0) || side === "tuned") ? "memory" : null));
  const { row, said } = await run(sides);
  expect(Object.keys(row).sort()).toEqual(["compiled", "failed", "ours", "oursGraph", "upstream"]);
  expect(row.failed).toEqual({ tuned: "out of memory" });
  expect(said).toContain("vit_small 32 upstream: out of memory, beside the others; later alone");
  const again = stubSides(() => null);
  await run(again, row);
  expect(again.log).toEqual([]);
});

test("what is compiled is measured without ours where both find no memory, and ours keeps its figures", async () => {
  const sides = stubSides((side, request, beside) => (side === "compiled" && request.do === "setup" && beside.length > 0 ? "memory" : null));
  const { row, said } = await run(sides);
  expect(row.ours!.seconds).toHaveLength(3);
  expect(row.compiled).toMatchObject({ seconds: [0.1, 0.1, 0.1] });
  expect(row.compiled).not.toHaveProperty("oursBeside");
  expect(row.failed).toBeUndefined();
  expect(said).toContain("vit_small 32 compiled: out of memory, beside the others; later alone");
});

test.each<["setup" | "measure"]>([["setup"], ["measure"]])("a side that breaks at %s loses no other's figures, and the next run tries it again", async (when) => {
  const { row } = await run(stubSides((side, request) => (side === "ours" && request.do === when ? "break" : null)));
  expect(Object.keys(row).sort()).toEqual(["compiled", "failed", "oursGraph", "tuned", "upstream"]);
  expect(row.failed!.ours).toMatch(/illegal instruction/);
  const again = stubSides(() => null);
  await run(again, row);
  expect(again.log[0]).toBe("ours setup ≤ 60 s");
  expect(new Set(again.log.map((each) => each.split(" ")[0]))).toEqual(new Set(["ours"]));
  expect(row.ours!.seconds).toHaveLength(3);
  expect(row.failed).toBeUndefined();
});

test("a side that gives no profile keeps its figures", async () => {
  const { row } = await run(stubSides((_, request) => (request.do === "profile" ? "break" : null)), {}, { withProfile: true, sides: ["ours"] });
  expect(row.ours!.imagesPerSecond).toBe(320);
});

test("a program that cannot do its part is told before anything is measured, with all others, and how to go on without it", async () => {
  const log: string[] = [];
  const ask = (async (side, request) => {
    log.push(`${side} ${request.do}`);
    if (side === "upstream") throw new Error("upstream ended before it answered:\nTraceback:\nModuleNotFoundError: No module named 'timm'\n");
    return request.do === "machine" ? { gpu: "G" } : side === "compiled" ? { trouble: "no C compiler" } : {};
  }) as Ask;
  await expect(checkSides(ask, ["ours", "tuned", "upstream", "compiled"])).rejects.toThrow(
    "step-gpu cannot begin.\n  upstream: ModuleNotFoundError: No module named 'timm'\n  compiled: no C compiler\n" +
    "Mend that, or measure without: --sides ours,tuned",
  );
  expect(log).toEqual(["ours check", "tuned check", "upstream check", "compiled check"]);
  expect(await checkSides(ask, ["ours", "tuned"])).toEqual({ gpu: "G" });
});

test("rows are kept by GPU, network and batch", () => {
  const machine = { gpu: "NVIDIA H200 (80)", gpuMemoryGiB: 140, matrixProductTflops: 700 };
  const rows = new KeptRows(root, machine);
  expect(rows.get("vit_small", 32)).toEqual({});
  rows.set("vit_small", 256, { failed: { tuned: "out of memory" } });
  rows.set("vit_small", 32, {});
  rows.set("resnet50", 32, {});
  expect(new KeptRows(root, machine).all().map(({ arch, batch }) => `${arch} ${batch}`)).toEqual(["resnet50 32", "vit_small 32", "vit_small 256"]);
  expect(new KeptRows(root, machine).get("vit_small", 256)).toEqual({ failed: { tuned: "out of memory" } });
  expect(readdirSync(join(root))).toEqual(["nvidia-h200-80"]);
});
