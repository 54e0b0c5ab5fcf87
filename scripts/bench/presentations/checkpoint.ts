import type { StallAnswer } from "../checkpoint.js";
import type { BenchmarkResult } from "../result.js";
import { spreadOf } from "../spread.js";
import { factor, number, spread } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

type Pair<T> = { ours: T[]; torch: T[] };

interface Raw {
  loads: Pair<{ seconds: number; extraBytes: number }>;
  saves: { durable: Pair<number>; plain: Pair<number> };
  stall: StallAnswer;
}

export function presentCheckpoint({ settings, ratios, raw }: BenchmarkResult): Presentation {
  const { loads, saves, stall } = raw as unknown as Raw;
  const times: [string, Pair<number>, number | undefined][] = [
    ["load", { ours: loads.ours.map(({ seconds }) => seconds), torch: loads.torch.map(({ seconds }) => seconds) }, ratios["loadTime"]],
    ["save, durably", saves.durable, ratios["saveTime"]],
    ["save, left to the system", saves.plain, ratios["savePlainTime"]],
  ];
  const gigabytes = `${number((settings["fileBytes"] as number) / 1e9)} GB`;
  return {
    title: "Reading and writing a checkpoint",
    panels: [
      {
        title: `A checkpoint of ${gigabytes}`, axis: "seconds (less is better)",
        bars: times.flatMap(([what, { ours, torch }]) => [bar(what, "ours", ours), bar(what, "PyTorch", torch)]),
      },
      {
        title: "How long saving holds up a training loop", axis: "seconds (less is better)",
        bars: [
          bar("a save in the background", "ours", stall.following), bar("the first of them", "ours", [stall.first]),
          bar("a synchronous save", "ours", stall.synchronous),
        ],
      },
    ],
    columns: [`${String(settings["arch"])} with AdamW's state, ${gigabytes}`, "ours", "PyTorch", "ours over it"],
    rows: [
      ...times.map(([what, { ours, torch }, ratio]) => [`${what}, s`, spread(spreadOf(ours)), spread(spreadOf(torch)), factor(ratio)]),
      ["memory that loading adds, of the file's size", factor(ratios["loadExtraMemory"]), factor(ratios["loadExtraMemoryTorch"]), ""],
      ["stall of the loop by a save in the background, s", spread(spreadOf(stall.following)), "", ""],
      ["stall by a synchronous save, s", spread(spreadOf(stall.synchronous)), "", ""],
    ],
  };
}
