/** Something that must not be. */
export interface Violation {
  where: string;
  fault: string;
  place: string;
  what: string;
}

/** Violations told in full; the others are only counted. */
const TOLD = 20;

/** What a campaign did, and what it found. */
export class Tally {
  /** Faults by kind. */
  readonly faults: Record<string, number> = {};
  /** Contents of the folder that were checked after kills and errors. */
  states = 0;
  /** Runs that went on afterwards, to the end of a save. */
  nextRuns = 0;
  violationCount = 0;
  readonly violations: Violation[] = [];

  count(fault: string): void {
    this.faults[fault] = (this.faults[fault] ?? 0) + 1;
  }

  violation(violation: Violation): void {
    if (this.violationCount++ < TOLD) this.violations.push(violation);
  }

  get total(): number {
    return Object.values(this.faults).reduce((sum, each) => sum + each, 0);
  }
}
