import { factor } from "./presentations/numbers.js";
import type { BenchmarkResult } from "./result.js";
import { markdownTable } from "./table.js";

interface Target {
  benchmark: string;
  ratio: string;
  what: string;
  /** What a ratio must be at most, or at least. */
  atMost?: number;
  atLeast?: number;
}

const targets: readonly Target[] = [
  { benchmark: "ops", ratio: "geometricMean", what: "calling an operator: time, geometric mean, × Python's", atMost: 0.8 },
  ...["vit_small", "resnet50"].flatMap((arch): Target[] => [
    { benchmark: "step", ratio: `${arch}Time`, what: `step of ${arch}: time, × upstream's`, atMost: 0.95 },
    { benchmark: "step", ratio: `${arch}PeakMemory`, what: `step of ${arch}: peak memory, × upstream's`, atMost: 1 },
  ]),
  { benchmark: "data", ratio: "oneCoreImagesPerSecond", what: "two views of a JPEG on one core: images/s, × torchvision's and PIL's", atLeast: 5 },
  ...["vit_small", "resnet18"].map((arch): Target => (
    { benchmark: "end2end", ratio: `${arch}KeptImagesPerSecond`, what: `${arch} from JPEGs: images/s, × those of synthetic views`, atLeast: 0.97 }
  )),
  { benchmark: "checkpoint", ratio: "loadTime", what: "reading a checkpoint: time, × torch.load's", atMost: 1 },
  { benchmark: "checkpoint", ratio: "loadExtraMemory", what: "reading a checkpoint: memory, × the file's size", atMost: 1.1 },
];

/** What the project aims for on the CPU, beside what was measured; a target whose benchmark has no result yet says so. */
export function targetsTable(results: readonly BenchmarkResult[]): string {
  const rows = targets.map(({ benchmark, ratio, what, atMost, atLeast }) => {
    const measured = results.find(({ name }) => name === benchmark)?.ratios[ratio];
    const isMet = measured !== undefined && measured <= (atMost ?? Infinity) && measured >= (atLeast ?? -Infinity);
    const verdict = measured === undefined ? "not measured" : isMet ? "met" : "**missed**";
    return [what, atMost === undefined ? `≥ ${atLeast}` : `≤ ${atMost}`, factor(measured), verdict];
  });
  return markdownTable(["", "target", "measured", ""], rows);
}
