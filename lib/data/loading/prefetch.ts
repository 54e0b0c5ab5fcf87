/** Something that one side waits for and the other announces. */
class Signal {
  #wake: (() => void) | null = null;
  wait(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }
  notify(): void {
    this.#wake?.();
    this.#wake = null;
  }
}

/**
 * Runs a generator ahead of its consumer, up to `depth` finished items. An error reaches the consumer after the items before it.
 *
 * @param drop is given the items that nobody will take because the consumer stopped early
 */
export async function* prefetch<T>(items: AsyncGenerator<T>, depth: number, drop: (item: T) => void): AsyncGenerator<T, void, undefined> {
  const ready: T[] = [];
  const arrived = new Signal();
  const taken = new Signal();
  let stopped = false;
  let ended = false;
  let failure: { error: unknown } | null = null;
  const produce = async (): Promise<void> => {
    try {
      for await (const item of items) {
        ready.push(item);
        arrived.notify();
        while (!stopped && ready.length >= depth) await taken.wait();
        if (stopped) break;
      }
    } catch (error) {
      failure = { error };
    }
    ended = true;
    arrived.notify();
  };
  const running = produce();
  try {
    for (;;) {
      while (ready.length === 0 && !ended) await arrived.wait();
      if (ready.length === 0) break;
      const item = ready.shift()!;
      taken.notify();
      yield item;
    }
    if (failure) throw (failure as { error: unknown }).error;
  } finally {
    stopped = true;
    taken.notify();
    await running;
    ready.forEach(drop);
  }
}
