import { factor, number, percent } from "./presentations/numbers.js";
import type { BenchmarkResult } from "./result.js";
import { median } from "./spread.js";
import type { Row } from "./stepGpuRow.js";
import { markdownTable } from "./table.js";

interface Measured extends Row {
  arch: string;
  batch: number;
}

interface Target {
  what: string;
  atLeast?: number;
  atMost?: number;
  /** Of all rows that have what is compared: all must reach it, unless `best` says that one is enough. */
  values: readonly number[];
  best?: boolean;
  write?: (value: number) => string;
}

/** What the project aims for on a GPU, beside what was measured there: the range over networks and batches, or the best batch. */
export function gpuTargetsTable(results: readonly BenchmarkResult[]): string {
  const named = (name: string): BenchmarkResult | undefined => results.find((each) => each.name === name);
  const rows = Object.entries((named("step-gpu")?.raw ?? {}) as Record<string, Row>).map(([figure, row]): Measured => {
    const [, arch, batch] = /^(.*)_(\d+)$/.exec(figure)! as unknown as [string, string, string];
    return { ...row, arch, batch: Number(batch) };
  });
  const ratios = named("step-gpu")?.ratios ?? {};
  const over = (of: (row: Measured) => number | undefined, which = (_: Measured): boolean => true): number[] =>
    rows.filter(which).map(of).filter((value): value is number => value !== undefined && Number.isFinite(value));
  const isArch = (arch: string) => (row: Measured): boolean => row.arch === arch;
  const speeds = (row: Measured): number => Math.max(...[row.ours, row.oursGraph].flatMap((side) => (side ? [row.batch / median(side.seconds)] : [])));
  const ratio = (kind: string) => (row: Measured): number | undefined => ratios[`${row.arch}_${row.batch}${kind}`];
  const memory = (peer: "tuned" | "upstream") => ({ ours, [peer]: theirs }: Measured): number | undefined => ours && theirs && ours.peakBytes / theirs.peakBytes;
  const kept = named("end2end-gpu") ?? named("pretrain-gpu");
  const keptShares = Object.entries(kept?.ratios ?? {}).flatMap(([key, value]) => (/(KeptImagesPerSecond|_\d+EndToEnd)$/.test(key) ? [value] : []));
  const targets: Target[] = [
    { what: "ViT-S, images/s on an H200, best batch", atLeast: 4300, values: over(speeds, isArch("vit_small")), best: true, write: number },
    { what: "ViT-B, images/s on an H200, best batch", atLeast: 1400, values: over(speeds, isArch("vit_base")), best: true, write: number },
    { what: "ViT-S, of the matrix product, best batch", atLeast: 0.4, values: over(ratio("Mfu"), isArch("vit_small")), best: true, write: percent },
    { what: "ViT-B, of the matrix product, best batch", atLeast: 0.5, values: over(ratio("Mfu"), isArch("vit_base")), best: true, write: percent },
    { what: "images/s, × upstream's", atLeast: 1.3, values: over(ratio("OverUpstream")) },
    { what: "images/s, × PyTorch's for speed with `torch.compile`, max-autotune", atLeast: 1, values: over(ratio("OverCompiled")) },
    { what: "images/s, × PyTorch's for speed, not compiled", atLeast: 1, values: over(ratio("OverTuned")) },
    { what: "peak memory, × PyTorch's for speed", atMost: 1, values: over(memory("tuned")) },
    { what: "peak memory, × upstream's", atMost: 1, values: over(memory("upstream")) },
    { what: "resnet50, channels last: images/s, × channels first", atLeast: 1.45, values: over(ratio("ChannelsLastOverNchw"), isArch("resnet50")) },
    { what: "CUDA graph: images/s, × kernel by kernel", atLeast: 1, values: over(ratio("GraphOverEager")) },
    { what: "CUDA graph, at 32 images", atLeast: 1.25, values: over(ratio("GraphOverEager"), ({ batch }) => batch <= 32) },
    { what: "from JPEGs: images/s, × those of synthetic views", atLeast: 0.97, values: keptShares },
  ];
  return markdownTable(["", "target", "measured", ""], targets.map(cells));
}

function cells({ what, atLeast, atMost, values, best = false, write = factor }: Target): string[] {
  const target = atLeast === undefined ? `≤ ${write(atMost!)}` : `≥ ${write(atLeast)}`;
  if (values.length === 0) return [what, target, "–", "**not measured**"];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const measured = best || write(least) === write(most) ? write(most) : `${write(least)} to ${write(most)}`;
  const decisive = atLeast === undefined || best ? most : least;
  const isMet = decisive >= (atLeast ?? -Infinity) && decisive <= (atMost ?? Infinity);
  return [what, target, measured, isMet ? "met" : "**missed**"];
}
