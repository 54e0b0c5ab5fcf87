import { setMaxListeners } from "node:events";
import { DataOptionError } from "../errors.js";
import type { ImageInput } from "../imageInput.js";
import type { ImageStream, StreamRequest, StreamedImage } from "../imageSource.js";
import { RandomStream } from "../random.js";
import { dealShards, type ShardPart } from "./dealShards.js";
import { interleave } from "./interleave.js";
import { ShardError } from "./shardError.js";
import { shuffled } from "./shuffleBuffer.js";

/** One image of a shard. */
export interface ShardSample {
  /** Among the shard's images, from 0. */
  position: number;
  name: string;
  label: number | null;
  image: ImageInput | Promise<ImageInput>;
  /** Memory that holding the sample takes beyond a few words: the length of the image's bytes when they are in memory. */
  bytes: number;
}

/** A file, a part of one or a command that gives images. */
export interface Shard {
  /** How messages call it. */
  readonly name: string;
  /** Images in it, or null where only reading it tells. */
  readonly count: number | null;
  /**
   * Its images at the positions of a part, in order.
   *
   * @param ended aborts when no more are wanted, even while one is waited for
   */
  open(part: ShardPart, ended: AbortSignal): AsyncIterable<ShardSample>;
}

export interface ShardStreamOptions {
  /** Images in all. Default: the shards' sum; required where a shard does not know its own. */
  length?: number;
  /** A new order of the shards every epoch, and shuffling within the buffer. Default true; false gives the shards' own order. */
  shuffle?: boolean;
  /** Samples in the shuffle buffer. Default 1000. */
  shuffleBuffer?: number;
  /** Bytes of images that the shuffle buffer holds at most; images that lie in plain files take none. Default 256 MiB. */
  maxBufferBytes?: number;
  /** Shards that are read side by side, one image of each in turn. Default 2; 1 without shuffling. */
  parallelShards?: number;
  /** Names of the classes that labels count. */
  classes?: readonly string[];
}

/** The error for shards whose images nobody has counted. */
export function lengthUnknown(shard: string): DataOptionError {
  return new DataOptionError(
    `how many images there are is known only when ${shard} is read to its end; say it with --images N (length in code)`,
  );
}

// Purposes of random numbers. The sampler has 0 and a sample's views count up from 1, so these are far from them.
const orderPurpose = 2 ** 31;
const bufferPurpose = 2 ** 31 + 1;
const idLimit = 2 ** 32;

/**
 * Images of shards in the order of an epoch: the shards in random order, read side by side, their images mixed by a shuffle buffer.
 *
 * The same seed, epoch, rank and number of ranks give the same images in the same order, whatever was asked before. For another number of
 * ranks an epoch has the same images with the same ids, so the same random crops, and the shards' order is the same; which images share a
 * batch is not, as each rank has a shuffle buffer of its own. How shards are dealt over the ranks: `dealShards`.
 *
 * An image's id is its number over all shards in the listed order. Where a shard does not know its count, the id is the shard's number
 * times the largest power of two that leaves room for all shards, plus the image's position; adding shards may change it.
 */
export class ShardStream implements ImageStream {
  readonly length: number;
  readonly classes?: readonly string[];
  readonly shards: readonly Shard[];
  readonly #counts: readonly number[] | null;
  /** Id of each shard's first image; what is between it and the next one's is the room that the shard has. */
  readonly #firstIds: readonly number[];
  readonly #options: Required<Omit<ShardStreamOptions, "length" | "classes">>;

  /**
   * @throws {DataOptionError} for an option outside its range, without shards, or when the length is neither given nor known.
   */
  constructor(shards: readonly Shard[], options: ShardStreamOptions = {}) {
    const { shuffle = true, shuffleBuffer = 1000, maxBufferBytes = 256 * 1024 ** 2 } = options;
    const { parallelShards = shuffle ? 2 : 1 } = options;
    for (const [name, value] of Object.entries({ shuffleBuffer, maxBufferBytes, parallelShards, length: options.length ?? 1 })) {
      if (!Number.isSafeInteger(value) || value < 1) throw new DataOptionError(`${name} is ${value}; give a whole number from 1`);
    }
    if (!shuffle && parallelShards > 1) throw new DataOptionError("parallelShards mixes the shards' images; leave it out, or shuffle");
    if (shards.length === 0) throw new DataOptionError("there is no shard; give at least one");
    this.shards = shards;
    this.#options = { shuffle, shuffleBuffer, maxBufferBytes, parallelShards };
    if (options.classes) this.classes = options.classes;

    const uncounted = shards.find((shard) => shard.count === null);
    this.#counts = uncounted ? null : shards.map((shard) => shard.count!);
    const sum = this.#counts?.reduce((total, count) => total + count, 0);
    const length = options.length ?? sum;
    if (length === undefined) throw lengthUnknown(uncounted!.name);
    if ((sum ?? 0) > idLimit || shards.length > idLimit) {
      throw new DataOptionError(`${sum ?? shards.length} images are more than the ${idLimit} that can be told apart; use fewer shards`);
    }
    this.length = length;
    const room = 2 ** Math.floor(Math.log2(idLimit / shards.length));
    const firstIds = [0];
    for (const shard of shards) firstIds.push(firstIds.at(-1)! + (this.#counts ? shard.count! : room));
    this.#firstIds = firstIds;
  }

  stream(request: StreamRequest): AsyncIterable<StreamedImage> {
    const { rank, worldSize } = request;
    if (!Number.isInteger(worldSize) || worldSize < 1 || !Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
      throw new DataOptionError(`rank ${rank} of ${worldSize}: the rank is a whole number from 0 to one below the number of ranks`);
    }
    return { [Symbol.asyncIterator]: () => this.#iterate(request) };
  }

  /** An iterator whose `return` ends a command at once, also while its next image is being waited for. */
  #iterate(request: StreamRequest): AsyncIterator<StreamedImage> {
    const ended = new AbortController();
    setMaxListeners(0, ended.signal); // each shard that is being read is one
    const images = this.#images(request, ended.signal);
    return {
      async next() {
        try {
          return await images.next();
        } catch (error) {
          if (ended.signal.aborted) return { done: true, value: undefined };
          ended.abort();
          throw error;
        }
      },
      return() {
        ended.abort();
        return images.return();
      },
    };
  }

  async *#images({ seed, epoch, rank, worldSize }: StreamRequest, ended: AbortSignal): AsyncGenerator<StreamedImage, void, undefined> {
    const { shuffle, shuffleBuffer, maxBufferBytes, parallelShards } = this.#options;
    const order = shuffle
      ? new RandomStream({ seed, epoch, index: 0, stream: orderPurpose }).permutation(this.shards.length)
      : Uint32Array.from(this.shards, (_, i) => i);
    const parts = dealShards(order, this.#counts, rank, worldSize);
    const samples = interleave(parts.map((part) => () => this.#read(part, ended)), parallelShards);
    const random = new RandomStream({ seed, epoch, index: rank, stream: bufferPurpose });
    const buffer = shuffled(samples, { size: shuffle ? shuffleBuffer : 1, bytes: maxBufferBytes }, random);
    for await (const { id, name, label, image } of buffer) yield { id, name, label, image };
  }

  async *#read(part: ShardPart, ended: AbortSignal): AsyncGenerator<StreamedImage & { bytes: number }, void, undefined> {
    const shard = this.shards[part.shard]!;
    const first = this.#firstIds[part.shard]!;
    const room = this.#firstIds[part.shard + 1]! - first;
    for await (const { position, name, label, image, bytes } of shard.open(part, ended)) {
      if (position >= room) {
        throw new ShardError(
          shard.name,
          `has more than the ${room} images that there are numbers for with ${this.shards.length} shards; divide it, or list fewer`,
        );
      }
      yield { id: first + position, name, label, image, bytes };
    }
  }
}
