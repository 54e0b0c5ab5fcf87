/** The `count` known names with the fewest edits from `name`, upper and lower case alike: what a typing error most likely meant. */
export function nearestNames(name: string, known: readonly string[], count: number): string[] {
  const wanted = name.toLowerCase();
  const byDistance = known.map((each) => ({ each, distance: editDistance(wanted, each.toLowerCase()) }));
  return byDistance.sort((a, b) => a.distance - b.distance).slice(0, count).map(({ each }) => each);
}

/** Levenshtein distance, one row of the table at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
