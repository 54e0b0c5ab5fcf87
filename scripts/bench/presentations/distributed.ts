import type { AllReduceTime, DistributedStep, SyncBatchNormTime } from "../distributed.js";
import type { BenchmarkResult } from "../result.js";
import { count, factor, number } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

interface Raw {
  allReduce: AllReduceTime[];
  step: DistributedStep[];
  syncBatchNorm: SyncBatchNormTime[];
}

export function presentDistributed({ raw }: BenchmarkResult): Presentation {
  const { allReduce, step, syncBatchNorm } = raw as unknown as Raw;
  const group = ({ arch, ranks }: DistributedStep): string => `${arch}, ${ranks} processes`;
  return {
    title: "Training in several processes",
    panels: [
      {
        title: "Forward and backward, gradients averaged over Gloo", axis: "milliseconds (less is better)",
        bars: step.flatMap((each) => [
          bar(group(each), "during backward", [each.overlappedMs]), bar(group(each), "after backward", [each.afterwardsMs]),
          bar(group(each), "not averaged", [each.aloneMs]),
        ]),
      },
      {
        title: "All-reduce by size", axis: "milliseconds, by factors of ten (less is better)", logarithmic: true,
        bars: allReduce.map(({ ranks, bytes, ms }) => bar(size(bytes), `${ranks} processes`, [ms])),
      },
    ],
    columns: ["", "ms", "beside, ms", "over it"],
    rows: [
      ...step.map((each) => [
        `${group(each)}: gradients averaged during backward, beside after it`, number(each.overlappedMs), number(each.afterwardsMs),
        factor(each.overlappedMs / each.afterwardsMs),
      ]),
      ...syncBatchNorm.map(({ ranks, channels, localMs, synchronizedMs }) => [
        `batch normalisation of ${channels} channels, ${ranks} processes: synchronised, beside local`, number(synchronizedMs), number(localMs),
        factor(synchronizedMs / localMs),
      ]),
      ...allReduce.map(({ ranks, bytes, ms }) => [`all-reduce of ${size(bytes)}, ${ranks} processes`, number(ms), "", ""]),
    ],
  };
}

function size(bytes: number): string {
  const [unit, name] = ([[2 ** 20, "MiB"], [2 ** 10, "KiB"]] as const).find(([least]) => bytes >= least) ?? [1, "bytes"];
  return `${count(bytes / unit)} ${name}`;
}
