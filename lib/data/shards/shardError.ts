/** A shard that cannot be read: missing, cut off, damaged, not of its format, or a command that failed. */
export class ShardError extends Error {
  override readonly name = "ShardError";
  /** The file or the command. */
  readonly shard: string;
  /** Where in the shard, in bytes; null where no place is to blame. */
  readonly offset: number | null;

  constructor(shard: string, reason: string, options: { offset?: number; cause?: unknown } = {}) {
    super(`${shard}: ${reason}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.shard = shard;
    this.offset = options.offset ?? null;
  }
}
