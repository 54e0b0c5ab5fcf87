import { binomialError, type Agreement } from "./statistics.js";

/** Accuracies of a method on a data set, over several seeds. */
export interface SeededComparison {
  data: string;
  method: string;
  /** Images that are judged. */
  images: number;
  ours: number[];
  theirs: number[];
  agreement: Agreement;
}

/** A method that draws nothing. */
export interface ExactComparison {
  data: string;
  method: string;
  images: number;
  ours: number;
  theirs: number;
  /** Votes that rounding may turn. */
  ties: number;
  /** Whether the accuracies are equal, as far as ties go. */
  equal: boolean;
}

export type Comparison = SeededComparison | ExactComparison;

export function isSeeded(comparison: Comparison): comparison is SeededComparison {
  return "agreement" in comparison;
}

/** Whether the sides are no further apart than draws of seeds and of images explain: nothing that tells of a mistake. */
export function isExplained(comparison: Comparison): boolean {
  return isSeeded(comparison) ? comparison.agreement.verdict !== "apart" : comparison.equal;
}

const verdicts = {
  seeds: "yes, of the seeds alone",
  images: "yes, of seeds and images",
  apart: "no",
} as const satisfies Record<Agreement["verdict"], string>;

/** The comparisons as a table in Markdown. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  const header = ["images", "method", "ours", "PyTorch", "difference", "± seeds", "± images", "within one standard error"];
  const align = ["---", "---", "---:", "---:", "---:", "---:", "---:", "---"];
  return [header, align, ...comparisons.map((each) => [each.data, each.method, ...(isSeeded(each) ? seededCells(each) : exactCells(each))])]
    .map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

function seededCells({ ours, theirs, agreement }: SeededComparison): string[] {
  const side = (values: readonly number[], { mean, error }: Agreement["ours"]): string => `${percent(mean)} ± ${percent(error, 2)} (${values.length})`;
  const { difference, seedError, imageError, verdict } = agreement;
  return [
    side(ours, agreement.ours), side(theirs, agreement.theirs), signed(difference), percent(seedError, 2), percent(imageError, 2), verdicts[verdict],
  ];
}

function exactCells({ ours, theirs, images, ties, equal }: ExactComparison): string[] {
  const verdict = equal ? (ours === theirs ? "equal" : `equal but for ${ties} ties`) : "no";
  return [percent(ours), percent(theirs), signed(ours - theirs), "", percent(binomialError((ours + theirs) / 2, images), 2), verdict];
}

function percent(fraction: number, digits = 1): string {
  return (fraction * 100).toFixed(digits);
}

function signed(fraction: number): string {
  const text = percent(Math.abs(fraction), 2);
  return Number(text) === 0 ? text : `${fraction < 0 ? "−" : "+"}${text}`;
}
