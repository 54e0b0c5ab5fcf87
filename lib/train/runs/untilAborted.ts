/**
 * Passes on what a generator makes until the signal is aborted; a wait for the next item is cut short then, however long it would have been.
 *
 * The generator is told to end in any case. Only where the signal is not aborted is its end waited for: what holds up an item may hold up the
 * end as well, and whoever wants to stop has a checkpoint to write first.
 */
export async function* untilAborted<T>(iterable: AsyncIterable<T, void, undefined>, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
  const items = iterable[Symbol.asyncIterator]();
  try {
    while (!signal?.aborted) {
      const next = items.next();
      const result = await unlessAborted(next, signal);
      if (result === null) {
        next.then(({ value }) => (value as Partial<Disposable> | undefined)?.[Symbol.dispose]?.(), () => undefined);
        return;
      }
      if (result.done) return;
      yield result.value;
    }
  } finally {
    const ended = items.return?.();
    if (signal?.aborted) ended?.catch(() => undefined);
    else await ended;
  }
}

/**
 * What the work gives, or null once the signal is aborted. The work goes on then, and nobody hears of its failure.
 *
 * @param patienceMs how long work that notices the signal itself is waited for, to leave nothing behind
 */
export function unlessAborted<T>(work: Promise<T>, signal?: AbortSignal, patienceMs = 0): Promise<T | null> {
  if (signal === undefined) return work;
  // A listener for each wait: a promise of the whole run that took part in every race would keep a reaction for each step.
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const aborted = (): void => {
      if (patienceMs === 0) resolve(null);
      else timer = setTimeout(() => resolve(null), patienceMs);
    };
    signal.addEventListener("abort", aborted, { once: true });
    work.then(resolve, (error: unknown) => (signal.aborted ? resolve(null) : reject(error as Error))).finally(() => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
    });
    if (signal.aborted) aborted();
  });
}
