/**
 * The result of a function that must be done when it returns; `reason` says why and what to do instead.
 *
 * @throws Error when the result is a promise, whose own rejection is then of no interest
 */
export function refusePromise<T>(result: T, reason: string): T {
  if (result instanceof Promise) {
    result.catch(() => undefined);
    throw new Error(reason);
  }
  return result;
}
