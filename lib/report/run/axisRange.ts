/** The ends of a vertical axis: all values in it, with a little air, and room around a single one. */
export function axisRange(low: number, high: number, include: readonly number[] = []): [number, number] {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  const [least, most] = [Math.min(low, ...include), Math.max(high, ...include)];
  const air = most > least ? 0.06 * (most - least) : Math.abs(most) * 0.01 || 1;
  // An end that is asked for is the axis's own.
  return [include.includes(least) && least <= low ? least : least - air, include.includes(most) && most > high ? most : most + air];
}

/** The ends of a logarithmic axis. */
export function logRange(low: number, high: number): [number, number] {
  if (!(low > 0) || !Number.isFinite(high)) return [0.1, 10];
  const air = Math.max(1.25, (high / low) ** 0.05);
  return high / low < 10 ? [low / Math.max(air, Math.sqrt(10 / (high / low))), high * Math.max(air, Math.sqrt(10 / (high / low)))] : [low / air, high * air];
}

const mostTicks = 7;

/** Round places of a logarithmic axis: 1, 2 and 5 times powers of ten where there is room for them, else powers alone. */
export function logTicks(low: number, high: number): number[] {
  const powers = (multiples: readonly number[], apart = 1): number[] => {
    const ticks: number[] = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
      if (power % apart === 0) ticks.push(...multiples.map((multiple) => Number(`${multiple}e${power}`)));
    }
    return ticks.filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
  };
  const choices = [powers([1, 2, 5]), powers([1, 3]), ...Array.from({ length: 100 }, (_, i) => powers([1], i + 1))];
  return choices.find(({ length }) => length <= mostTicks)!;
}
