/** How long a second Ctrl-C counts as the first: npm passes on the one that the terminal has already sent. */
const ECHO_MS = 1000;

/** Listens for the wish to stop. */
export interface Interrupt {
  /** Aborted by the first Ctrl-C (SIGINT), SIGTERM or other signal that was asked for; the reason is the signal's name. */
  readonly signal: AbortSignal;
  /** Gives the signals back their usual meaning. */
  dispose(): void;
}

/**
 * From now on the first Ctrl-C or SIGTERM asks the run to finish its step and save. A later Ctrl-C ends the process at once, even in the
 * middle of a long step.
 *
 * @param onInterrupt called when the wish arrives
 * @param further signals that ask for the same, such as SIGUSR2; SIGUSR1 no longer opens Node.js's debugger then
 */
export function listenForInterrupt(
  onInterrupt: (signal: NodeJS.Signals) => void = () => {}, further: readonly NodeJS.Signals[] = [],
): Interrupt {
  const controller = new AbortController();
  const signals: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", ...further];
  const interrupted = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) return;
    // Without a listener the system ends the process itself, which needs no turn of the event loop.
    setTimeout(() => process.off("SIGINT", interrupted), ECHO_MS).unref();
    controller.abort(signal);
    onInterrupt(signal);
  };
  for (const signal of signals) process.on(signal, interrupted);
  return {
    signal: controller.signal,
    dispose: () => signals.forEach((signal) => process.off(signal, interrupted)),
  };
}
