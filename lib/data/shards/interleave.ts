/**
 * Reads several streams side by side: one sample of each in turn, and a stream that ends makes room for the next in the list. Each is
 * asked for its next sample before that is needed, so that waiting for one does not hold up the others. The order depends on the streams
 * alone, not on which is faster.
 *
 * @param width streams at once
 */
export async function* interleave<T>(
  streams: readonly (() => AsyncIterable<T>)[], width: number,
): AsyncGenerator<T, void, undefined> {
  let opened = 0;
  const open = (): Lane<T> | null => (opened < streams.length ? new Lane(streams[opened++]!()[Symbol.asyncIterator]()) : null);
  const lanes: Lane<T>[] = [];
  try {
    while (lanes.length < width) {
      const lane = open();
      if (!lane) break;
      lanes.push(lane);
    }
    for (let turn = 0; lanes.length > 0;) {
      turn %= lanes.length;
      const next = await lanes[turn]!.take();
      if (!next.done) {
        turn++;
        yield next.value;
        continue;
      }
      const lane = open();
      if (lane) lanes[turn] = lane;
      else lanes.splice(turn, 1);
    }
  } finally {
    await Promise.all(lanes.map((lane) => lane.close()));
  }
}

/** A stream whose next sample is under way. */
class Lane<T> {
  readonly #iterator: AsyncIterator<T>;
  #next: Promise<IteratorResult<T>>;

  constructor(iterator: AsyncIterator<T>) {
    this.#iterator = iterator;
    this.#next = this.#ask();
  }

  async take(): Promise<IteratorResult<T>> {
    const next = await this.#next;
    if (!next.done) this.#next = this.#ask();
    return next;
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }

  #ask(): Promise<IteratorResult<T>> {
    const next = this.#iterator.next();
    next.catch(() => {}); // an error counts when its turn comes
    return next;
  }
}
