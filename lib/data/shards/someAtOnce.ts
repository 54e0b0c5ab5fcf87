/**
 * Maps a list with a promise for each item, a limited number at once; the results are in the list's order. After an error no item is begun,
 * and it is thrown when those under way have ended.
 */
export async function someAtOnce<T, R>(items: readonly T[], limit: number, map: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  let failure: { error: unknown } | null = null;
  const work = async (): Promise<void> => {
    while (next < items.length && !failure) {
      const index = next++;
      try {
        results[index] = await map(items[index]!, index);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, work));
  if (failure) throw (failure as { error: unknown }).error;
  return results;
}
