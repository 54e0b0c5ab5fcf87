import type { Position } from "../../lib/train/runs/checkpointFiles.js";
import type { Retention } from "../../lib/train/runs/checkpointRetention.js";

/** A run whose saves the campaign disturbs. */
export interface Scenario {
  name: string;
  retention: Retention;
  /** What the file system can do; without hard links the pointer is a copy. */
  links: "symbolic" | "hard" | "none";
  /** Positions of checkpoints that are there before. */
  before: Position[];
  /** Those that are saved. */
  saves: Position[];
}

/** From the end of epoch `first` on, one checkpoint an epoch, with `steps` more inside each. */
function epochs(first: number, last: number, steps = 0): Position[] {
  const positions: Position[] = [];
  for (let epoch = first; epoch <= last; epoch++) {
    for (let step = 1; step <= steps; step++) positions.push({ epoch: epoch - 1, step: 100 * step });
    positions.push({ epoch, step: 0 });
  }
  return positions;
}

export const SCENARIOS: readonly Scenario[] = [
  { name: "everything kept", retention: {}, links: "symbolic", before: [], saves: epochs(1, 6) },
  { name: "mid-epoch checkpoints, everything else kept", retention: {}, links: "symbolic", before: [], saves: epochs(1, 4, 2) },
  { name: "keep 1", retention: { keep: 1 }, links: "symbolic", before: [], saves: epochs(1, 7) },
  { name: "keep 2, mid-epoch checkpoints", retention: { keep: 2 }, links: "symbolic", before: [], saves: epochs(1, 5, 2) },
  { name: "keep 2, keep every 3", retention: { keep: 2, keepEvery: 3 }, links: "symbolic", before: [], saves: epochs(1, 10) },
  { name: "keep every 2, mid-epoch checkpoints", retention: { keepEvery: 2 }, links: "symbolic", before: [], saves: epochs(1, 6, 1) },
  {
    name: "keep 2 in a folder of a run without limit", retention: { keep: 2, keepEvery: 5 }, links: "symbolic",
    before: epochs(1, 7), saves: epochs(8, 10),
  },
  {
    name: "keep 2, over the files of a longer run", retention: { keep: 2 }, links: "symbolic",
    before: epochs(1, 9, 1), saves: epochs(4, 7, 1),
  },
  { name: "hard links, keep 2", retention: { keep: 2 }, links: "hard", before: [], saves: epochs(1, 5, 1) },
  { name: "hard links, over the files of a longer run", retention: {}, links: "hard", before: epochs(1, 5), saves: epochs(3, 6) },
  { name: "no links, keep 1", retention: { keep: 1 }, links: "none", before: [], saves: epochs(1, 5, 1) },
  {
    name: "no links, over the files of a longer run", retention: { keepEvery: 2 }, links: "none",
    before: epochs(1, 5), saves: epochs(3, 6),
  },
];

/** The positions after `position`, for a run that goes on. */
export function following(position: Position | null, count: number): Position[] {
  const first = position === null ? 1 : position.epoch + 1;
  return epochs(first, first + count - 1);
}
