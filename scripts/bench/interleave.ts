/** How often sides are measured in turn. */
export interface Turns {
  /** Measurements of each side that count. */
  rounds: number;
  /** Rounds before them, which fill caches and are thrown away. Default 1. */
  warmUp?: number;
}

/**
 * Measures all sides once in each round, in turn, so that a slow minute of the machine falls on all of them. Every other round goes backwards:
 * whoever comes right after another, in a warm cache or on a busy disk, does so as often as the others.
 *
 * @param measure one measurement of a side; `round` is 0 in the warm-up
 * @returns each side's measurements, round by round
 */
export async function interleave<Side extends string, Measurement>(
  sides: readonly Side[], { rounds, warmUp = 1 }: Turns, measure: (side: Side, round: number) => Measurement | Promise<Measurement>,
): Promise<Record<Side, Measurement[]>> {
  const measured = Object.fromEntries(sides.map((side) => [side, [] as Measurement[]])) as Record<Side, Measurement[]>;
  for (let round = 1 - warmUp; round <= rounds; round++) {
    for (const side of Math.abs(round) % 2 === 0 ? sides : [...sides].reverse()) {
      const measurement = await measure(side, Math.max(0, round));
      if (round > 0) measured[side].push(measurement);
    }
  }
  return measured;
}
