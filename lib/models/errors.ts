/** A model was asked for with sizes that cannot be built. */
export class ModelConfigError extends Error {
  override readonly name = "ModelConfigError";
}

/** A model was given images of another size than it was built for. */
export class InputSizeError extends Error {
  override readonly name = "InputSizeError";

  constructor(found: readonly number[], [height, width]: ImageSize) {
    super(
      `The model takes images [N, 3, ${height}, ${width}] and got shape [${found}]: ` +
        `resize the images to ${height}x${width}, or build the model with imageSize: [${found[2]}, ${found[3]}].`,
    );
  }
}

/** Height and width in pixels. */
export type ImageSize = readonly [height: number, width: number];

/** Checks that `value` is a whole number of at least `least`. */
export function requireInteger(name: string, value: number, least = 1): void {
  if (!Number.isInteger(value) || value < least) {
    throw new ModelConfigError(`${name} is ${value}: it must be a whole number of at least ${least}.`);
  }
}

/** Checks that a ResNet is not asked for stochastic depth. */
export function requireNoDropPath(dropPath = 0): void {
  if (dropPath === 0) return;
  throw new ModelConfigError(`dropPath is ${dropPath}: a ResNet has no stochastic depth here; leave it out, or give 0.`);
}
