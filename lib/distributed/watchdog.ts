import { launched, readConfig } from "../config.js";
import { native } from "../native.js";
import type { Placement } from "./placement.js";

/** How often the main thread shows that it lives, where it runs JavaScript and no operators, in milliseconds. */
const TURN_MS = 500;
/** How long a main thread may be busy with one operator before a whole step has shown how long that takes here, in milliseconds. */
const FIRST_PATIENCE_MS = 600_000;

/**
 * Watches over the processes that train together, from threads of its own.
 *
 * When one of them dies, is stopped, hangs or cannot be reached any more for `seconds`, each of the others says which one, at which step and in
 * which collective it was itself, and ends with exit code 75 (`EXIT_PEER_FAILED`): a collective that waits for a dead peer cannot be mended.
 * All are told by the store, so all name the same one; only who has lost the store itself can but say that.
 */
export class Watchdog implements Disposable {
  readonly #handle: unknown;
  readonly #turns: NodeJS.Timeout;
  #stopped = false;

  private constructor(placement: Placement, seconds: number) {
    const { masterAddress, masterPort, generation, rank, worldSize, externalStore } = placement;
    // Until here a stopped process, which does not see that its launcher is gone, could be left behind.
    if (launched()) native.endWithParent();
    this.#handle = native.startWatchdog(
      masterAddress, masterPort, generation, rank, worldSize, rank === 0 && !externalStore, externalStore ? "the launcher that hosts it" : "rank 0, which hosts it",
      Math.round(seconds * 1000), FIRST_PATIENCE_MS,
    );
    this.#turns = setInterval(() => native.turnWatchdog(this.#handle), TURN_MS).unref();
  }

  /**
   * @param seconds without a sign of life after which a process counts as dead; 0 for no watchdog.
   * Default: `MOCO_WATCHDOG_SECONDS`, or 30
   */
  static start(placement: Placement, seconds = readConfig().watchdogSeconds): Watchdog | null {
    return seconds === 0 || placement.worldSize === 1 ? null : new Watchdog(placement, seconds);
  }

  /** Rounds of looking after the others so far, and the processor time that they took. */
  get costs(): { rounds: number; cpuSeconds: number } {
    const [rounds, cpuSeconds] = native.watchdogCosts(this.#handle);
    return { rounds, cpuSeconds };
  }

  /** This process has done its part: nobody waits for it any more. */
  dispose(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#turns);
    native.stopWatchdog(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
