import { expect, test } from "@jest/globals";
import { benchmarkChart } from "../../scripts/bench/chart.js";
import { number, percent, spread } from "../../scripts/bench/presentations/numbers.js";
import { present } from "../../scripts/bench/presentations/index.js";
import type { BenchmarkResult } from "../../scripts/bench/result.js";
import { benchmarkTable } from "../../scripts/bench/table.js";

const step: BenchmarkResult = {
  name: "step",
  date: "2026-01-02",
  machine: { cpu: "A & B <C>", cores: 4, memoryGiB: 8, system: "linux", capability: "AVX2" },
  versions: { node: "20.20.2", libtorch: "2.11.0", python: "3.11 torch 2.11.0" },
  settings: { batch: 16 },
  ratios: { vit_smallTime: 0.5, vit_smallPeakMemory: 0.25, vit_smallTimeOverTuned: 0.8, vit_smallMfu: 0.3 },
  raw: {
    vit_small: {
      seconds: { ours: [4, 5, 2], upstream: [8, 10, 4], tuned: [5, 6, 2.5] },
      peakBytes: { ours: 1e9, upstream: 4e9, tuned: 2e9 },
    },
    resnet50: { seconds: { ours: [1], upstream: [2] }, peakBytes: { ours: 3e9, upstream: 3.5e9 } },
  },
};

test("a table has a row for each network: medians, ranges, ratios as recorded, and dashes for what was not measured", () => {
  expect(benchmarkTable(step).split("\n")).toEqual([
    "| network | batch | ours, images/s | s per step | upstream (ours over it) | PyTorch, for speed (ours over it) | of the matrix product | peak GB, ours | peak GB, upstream | peak GB, PyTorch, for speed |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    "| vit_small | 16 | 4.00 | 4.00 (2.00–5.00) | 2.00 (2.00 ×) | 3.20 (1.25 ×) | 30 % | 1.00 | 4.00 | 2.00 |",
    "| resnet50 | 16 | 16.0 | 1.00 | 8.00 | – | – | 3.00 | 3.50 | – |",
    "",
  ]);
});

test("a chart has a title, axes with units, all sides and medians, a ground of its own, and words for those who hear it", async () => {
  const svg = await benchmarkChart(step);
  expect(svg.startsWith("<svg role=\"img\" ")).toBe(true);
  expect(svg).toContain("<title>A training step on the CPU</title>");
  const description = /<desc>(.*?)<\/desc>/.exec(svg)![1]!;
  expect(description).toContain("images per second (more is better): vit_small, batch 16, ours 4.00; vit_small, batch 16, upstream 2.00");
  const shown = [...svg.matchAll(/<text [^>]*>([^<]*)<\/text>/g)].map(([, text]) => text);
  expect(shown).toEqual(expect.arrayContaining([
    "A training step on the CPU", "A &amp; B &lt;C&gt;, 4 cores, 8 GiB; libtorch 2.11.0; Node.js 20.20.2; Python 3.11 torch 2.11.0; 2026-01-02",
    "images per second (more is better)", "peak, GB (less is better)", "ours", "upstream", "PyTorch, for speed", "vit_small, batch 16", "16.0", "3.20",
  ]));
  expect(svg).toMatch(/<rect width="\d+(\.\d+)?" height="\d+(\.\d+)?" fill="#ffffff"/);
  expect(svg.match(/aria-roledescription="bar"|mark-rect role-mark/g)!.length).toBeGreaterThan(0);
  expect(await benchmarkChart(step)).toBe(svg); // the second of a process has the same ids
});

test("the range is a line over the bar, where there is one", async () => {
  const lines = (svg: string): number =>
    [...svg.matchAll(/<line [^>]*x2="(-?[\d.]+)"[^>]*stroke="#1f2328"/g)].filter(([, length]) => Math.abs(Number(length)) > 0).length;
  const single: BenchmarkResult = { ...step, raw: { resnet50: step.raw["resnet50"] } };
  expect(lines(await benchmarkChart(single))).toBe(0);
  expect(lines(await benchmarkChart(step))).toBe(3);
});

test("a result of an unknown name is refused with the names there are", () => {
  expect(() => present({ ...step, name: "steps" })).toThrow(/no table of a benchmark "steps".*data.*step/);
});

test("numbers are written for readers", () => {
  expect([0, 0.00776, 0.5, 7.254, 42, 1234.6, 123456].map(number)).toEqual(["0", "0.00776", "0.500", "7.25", "42.0", "1,235", "123,456"]);
  expect(number(undefined)).toBe("–");
  expect(number(NaN)).toBe("–");
  expect([0.0004415, 0.0822, 0.2957, 1.0021].map(percent)).toEqual(["0.044 %", "8.2 %", "30 %", "100 %"]);
  expect(spread({ median: 2, low: 2, high: 2 })).toBe("2.00");
});

test("a step on a GPU: sides that found no memory are dashes, variants stand beside ours, and what else a row keeps is no side", async () => {
  const gpu: BenchmarkResult = {
    ...step, name: "step-gpu", ratios: { vit_small_32OverTuned: 1.25, vit_small_32Mfu: 0.5 },
    raw: {
      vit_small_32: {
        ours: { seconds: [0.04], peakBytes: 2e9 }, tuned: { seconds: [0.05], peakBytes: 3e9 }, oursGraph: { seconds: [0.02], peakBytes: 2e9 },
        profile: { ours: {} }, failed: { compiled: "too long" },
      },
      vit_small_1024: { ours: { seconds: [1], peakBytes: 7e10 } },
    },
  };
  expect(benchmarkTable(gpu).split("\n").slice(2, 4)).toEqual([
    "| vit_small | 32 | 800 | 40.0 | 640 (1.25 ×) | 1,600 (0.50 ×) | 50 % | 2.00 | 3.00 |",
    "| vit_small | 1024 | 1,024 | 1,000 | – | – | – | 70.0 | – |",
  ]);
  expect(await benchmarkChart(gpu)).toContain("ours, CUDA graph 1,600");
});
