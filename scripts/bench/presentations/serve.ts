import type { BenchmarkResult } from "../result.js";
import type { LoadResult } from "../serveLoad.js";
import { number } from "./numbers.js";
import { bar, type Bar, type Presentation } from "./presentation.js";

interface Raw {
  latencies: Record<string, LoadResult>;
  long: LoadResult;
  eventLoop: Record<"embedder" | "extractor", { p50Ms: number; p99Ms: number; maxMs: number }>;
}

export function presentServe({ ratios, settings, raw }: BenchmarkResult): Presentation {
  const { latencies, long, eventLoop: { embedder, extractor } } = raw as unknown as Raw;
  const amount = settings["amount"] as number;
  const loads = Object.entries(latencies);
  const connections = (n: string): string => `${n} connection${n === "1" ? "" : "s"}`;
  const latency = ([n, { latency: { p50, p99 } }]: [string, LoadResult]): Bar[] =>
    [bar(connections(n), "median", [p50]), bar(connections(n), "99th percentile", [p99])];
  const row = (what: string, { latency: { p50, p99, max }, requestsPerSecond, wrong }: LoadResult): string[] =>
    [what, number(p50), number(p99), number(max), number(requestsPerSecond), String(wrong)];
  return {
    title: "An embedding server",
    panels: [
      { title: "Answer of the example server", axis: "milliseconds (less is better)", bars: loads.flatMap(latency) },
      {
        title: "Event loop while vit_small embeds pictures", axis: "longest standstill, milliseconds (less is better)",
        bars: [bar("Embedder", "longest", [embedder.maxMs]), bar("the network on its thread", "longest", [extractor.maxMs])],
      },
    ],
    columns: ["", "median, ms", "99th percentile, ms", "longest, ms", "requests/s", "wrong answers"],
    rows: [
      ...loads.map(([n, load]) => row(connections(n), load)),
      row(`${amount.toLocaleString("en-US")} requests, ${String(settings["connections"])} connections; memory grows by a factor of ${ratios["memoryGrowth"]!.toFixed(3)}`, long),
      ["event loop beside `Embedder`", number(embedder.p50Ms), number(embedder.p99Ms), number(embedder.maxMs), "", ""],
      ["event loop with the network on its thread", number(extractor.p50Ms), number(extractor.p99Ms), number(extractor.maxMs), "", ""],
    ],
  };
}
