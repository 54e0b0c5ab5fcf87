import { byPosition, positionOf } from "./checkpointFiles.js";

/** Which checkpoints of a run stay. With neither, all those of whole epochs do. */
export interface Retention {
  /** The so many newest checkpoints of whole epochs stay; 1 if only `keepEvery` is given. */
  keep?: number | null;
  /**
   * Besides, every checkpoint stays for ever after which the number of epochs done is a multiple of this: 10 keeps those after 10, 20, 30
   * epochs, `checkpoint_0009.pth.tar`, `checkpoint_0019.pth.tar`, ... (the numbers in names count from 0).
   */
  keepEvery?: number | null;
}

/** A number of checkpoints to keep is not one. */
export class RetentionError extends Error {
  override readonly name = "RetentionError";
}

/** @throws RetentionError */
export function requireRetention({ keep, keepEvery }: Retention): void {
  for (const [name, value] of Object.entries({ keep, keepEvery })) {
    if (value == null || (Number.isSafeInteger(value) && value >= 1)) continue;
    throw new RetentionError(`${name} is ${value}, and must be a whole number from 1; leave it out to keep every checkpoint`);
  }
}

/**
 * The checkpoints that `newest` makes superfluous, oldest first: those from the middle of an epoch, and those of whole epochs
 * that `retention` does not keep. Never `newest` itself, those that are further (they are of another, longer run), or other files.
 *
 * @param names all names in the folder
 */
export function superseded(names: readonly string[], newest: string, { keep, keepEvery }: Retention): string[] {
  const earlier = names.filter((name) => positionOf(name) !== null && byPosition(name, newest) < 0).sort(byPosition);
  const isWhole = (name: string): boolean => !name.includes("_step_");
  const whole = [...earlier, newest].filter(isWhole);
  const prunes = keep != null || keepEvery != null;
  const recent = new Set(prunes ? whole.slice(-(keep ?? 1)) : whole);
  return earlier.filter((name) => {
    if (!isWhole(name)) return true;
    return !recent.has(name) && !(keepEvery != null && positionOf(name)!.epoch % keepEvery === 0);
  });
}
