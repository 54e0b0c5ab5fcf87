import { existsSync, readFileSync } from "node:fs";
import { writeDurably } from "../../lib/checkpoint/index.js";

/**
 * The accuracies of trainings that are done, in a file: a comparison that was stopped goes on, and more seeds are added to those that are
 * there. What is written down for another recipe is another training's.
 */
export class AccuracyStore {
  readonly #accuracies: Map<string, number>;
  /** Both sides write: one after the other. */
  #written: Promise<unknown> = Promise.resolve();

  constructor(readonly path: string) {
    this.#accuracies = new Map(existsSync(path) ? Object.entries(JSON.parse(readFileSync(path, "utf8")) as Record<string, number>) : []);
  }

  /**
   * The accuracy that is written down, or else that of the training, which is written down.
   *
   * @param training all that makes a difference to it
   */
  async get(training: Record<string, unknown>, train: () => Promise<number>): Promise<number> {
    const key = JSON.stringify(training);
    const known = this.#accuracies.get(key);
    if (known !== undefined) return known;
    const accuracy = await train();
    this.#accuracies.set(key, accuracy);
    const text = `${JSON.stringify(Object.fromEntries(this.#accuracies), null, 1)}\n`;
    this.#written = this.#written.then(() => writeDurably(this.path, (sink) => sink.write(Buffer.from(text))));
    await this.#written;
    return accuracy;
  }
}
