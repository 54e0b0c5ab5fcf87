/** Steps within which a trouble is told once. */
const QUIET_STEPS = 100;

interface Told {
  /** Step at which it was told last. */
  step: number;
  /** Steps since that had the same trouble. */
  kept: number;
}

/** Keeps a trouble that lasts from being told in every step. */
export class WarningLimit {
  #told: Record<string, Told> = {};

  /** Whether to tell of this kind of trouble now, and in how many steps it was kept back since the last time. */
  passes(what: string, step: number): { tell: boolean; kept: number } {
    const told = this.#told[what];
    if (told !== undefined && step - told.step < QUIET_STEPS) {
      told.kept++;
      return { tell: false, kept: told.kept };
    }
    this.#told[what] = { step, kept: 0 };
    return { tell: true, kept: told?.kept ?? 0 };
  }

  toJSON(): Record<string, Told> {
    return this.#told;
  }

  restore(told: Record<string, Told>): void {
    this.#told = told;
  }
}
