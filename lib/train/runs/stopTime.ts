/** Seconds from a wish to stop to a checkpoint on the disk that a run promises: what clusters leave a job between SIGTERM and SIGKILL at least. */
export const STOP_SECONDS = 10;
/** A step that takes longer leaves too little of them for the checkpoint. */
const LONGEST_STEP_SECONDS = 8;

/**
 * Watches whether a run could stop in time: a wish to stop waits for the step to end, perhaps for a checkpoint that is being written already,
 * and then for its own. Where that takes longer than {@link STOP_SECONDS}, it is said once, with what helps.
 */
export class StopTime {
  #steps = 0;
  #stepSeconds = 0;
  #saveSeconds = 0;
  #told = false;

  /** @param warn gets the warning */
  constructor(private readonly warn: (message: string) => void = () => {}) {}

  /** @param milliseconds that a step computed; a wait for images ends at once */
  step(milliseconds: number): void {
    // The first one takes memory from the system and is no measure.
    if (this.#steps++ === 0) return;
    this.#stepSeconds = milliseconds / 1000;
    if (this.#stepSeconds > LONGEST_STEP_SECONDS) this.#tell(`one step takes ${seconds(this.#stepSeconds)}`);
  }

  /** @param milliseconds from the beginning of a save until the checkpoint was safe on the disk */
  saved(milliseconds: number): void {
    this.#saveSeconds = Math.max(this.#saveSeconds, milliseconds / 1000);
    if (this.#stepSeconds + this.#saveSeconds <= STOP_SECONDS) return;
    this.#tell(`one step takes ${seconds(this.#stepSeconds)} and a checkpoint ${seconds(this.#saveSeconds)}`);
  }

  #tell(measured: string): void {
    if (this.#told) return;
    this.#told = true;
    const longest = this.#stepSeconds + 2 * this.#saveSeconds;
    const remedy = this.#stepSeconds > LONGEST_STEP_SECONDS
      ? "make steps shorter, with --micro-batch N, which can be left between its parts, or with a smaller --batch-size"
      : "write checkpoints to a faster disk (--out)";
    const late = longest > STOP_SECONDS
      ? `it can take ${seconds(longest)} until everything is saved, and not the ${STOP_SECONDS} s that a run otherwise keeps to`
      : `too little is left for a checkpoint of the ${STOP_SECONDS} s in which a run otherwise has everything saved`;
    this.warn(
      `${measured}, so after SIGTERM ${late}. Whoever is killed earlier loses the steps since the last checkpoint: ${remedy}, save more often ` +
        "(--save-every 100steps), or let whatever stops the run wait longer",
    );
  }
}

function seconds(value: number): string {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
}
