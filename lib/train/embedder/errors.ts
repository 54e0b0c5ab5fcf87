/** An image cannot be embedded: it is not there, does not decode, or its batch could not be computed. */
export class EmbedError extends Error {
  override readonly name = "EmbedError";

  /**
   * @param image its path, or `image 3` for bytes
   * @param index its place among those of the call
   */
  constructor(readonly image: string, readonly index: number, reason: string, options?: ErrorOptions) {
    super(`${image} cannot be embedded: ${reason}`, options);
  }
}

/** More images wait than the embedder's queue may hold. */
export class EmbedQueueFullError extends Error {
  override readonly name = "EmbedQueueFullError";

  constructor(readonly images: number, readonly waiting: number, readonly queueLimit: number) {
    super(
      `the queue is full: ${waiting} images wait, ${images} more were given, and it holds ${queueLimit}; try again later, give fewer images, ` +
      'raise queueLimit, or let the call wait for its turn: embed(images, { whenFull: "wait" })',
    );
  }
}

/** The embedder gives no vectors any more: it was disposed of, or its thread has ended. */
export class EmbedderClosedError extends Error {
  override readonly name = "EmbedderClosedError";
}
