import { describe, expect, test } from "@jest/globals";
import { DataOptionError } from "../../../lib/data/errors.js";
import type { ImageStream, StreamRequest } from "../../../lib/data/imageSource.js";
import { dealShards } from "../../../lib/data/shards/dealShards.js";
import { ShardStream, type Shard, type ShardSample, type ShardStreamOptions } from "../../../lib/data/shards/shardStream.js";

interface Watch {
  /** Samples that were handed out and not yet given to the consumer. */
  open: number;
  begun: number[];
  ended: number;
}

/** Shards whose images are named `shard/position`. */
function shardsOf(counts: readonly number[], known = true, bytes = 0, watch?: Watch): Shard[] {
  return counts.map((count, shard) => ({
    name: `shard ${shard}`,
    count: known ? count : null,
    async *open(part): AsyncGenerator<ShardSample> {
      watch?.begun.push(shard);
      try {
        for (let position = part.from; position < Math.min(part.to, count); position += part.stride) {
          if (position % 3 === shard % 3) await new Promise((resolve) => setImmediate(resolve)); // shards differ in speed
          if (watch) watch.open++;
          yield { position, name: `${shard}/${position}`, label: shard, image: `${shard}/${position}`, bytes };
        }
      } finally {
        if (watch) watch.ended++;
      }
    },
  }));
}

const request: StreamRequest = { seed: 7, epoch: 3, rank: 0, worldSize: 1 };

async function namesOf(stream: ImageStream, changes: Partial<StreamRequest> = {}, most = Infinity): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of stream.stream({ ...request, ...changes })) {
    names.push(name);
    if (names.length >= most) break;
  }
  return names;
}

const ofRanks = (stream: ImageStream, worldSize: number): Promise<string[][]> =>
  Promise.all(Array.from({ length: worldSize }, (_, rank) => namesOf(stream, { rank, worldSize })));

const everyName = (counts: readonly number[]): string[] =>
  counts.flatMap((count, shard) => Array.from({ length: count }, (_, position) => `${shard}/${position}`)).sort();

const open = (counts: readonly number[], options: ShardStreamOptions = {}, known = true): ShardStream =>
  new ShardStream(shardsOf(counts, known), { shuffleBuffer: 20, ...options });

describe("an epoch", () => {
  const counts = [30, 41, 7, 0, 22];

  test("gives every image once, in an order that the seed and the epoch make", async () => {
    const stream = open(counts);
    const first = await namesOf(stream);
    expect([...first].sort()).toEqual(everyName(counts));
    expect(first).not.toEqual(everyName(counts));
    expect(await namesOf(stream, { epoch: 4 })).not.toEqual(first);
    expect(await namesOf(stream, { seed: 8 })).not.toEqual(first);
  });

  test("is the same whatever was asked before, while or by a new object; a part of it is its beginning", async () => {
    const stream = open(counts);
    const first = await namesOf(stream);
    await namesOf(stream, { epoch: 9 }, 13);
    expect(await namesOf(stream, {}, 17)).toEqual(first.slice(0, 17));
    expect(await Promise.all([namesOf(stream), namesOf(stream, { epoch: 1 }), namesOf(open(counts))]))
      .toEqual([first, await namesOf(stream, { epoch: 1 }), first]);
  });

  test("resumed in its middle goes on as the one that was not interrupted", async () => {
    const whole = await namesOf(open(counts));
    const iterator = open(counts).stream(request)[Symbol.asyncIterator]();
    for (let i = 0; i < 40; i++) await iterator.next();
    const rest: string[] = [];
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) rest.push(next.value.name);
    expect(rest).toEqual(whole.slice(40));
  });

  test("ids are numbers over the listed shards in every epoch", async () => {
    const stream = open(counts);
    const ids = new Map<string, number>();
    for await (const { id, name } of stream.stream(request)) ids.set(name, id);
    expect([...ids.values()].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect([ids.get("0/0"), ids.get("1/0"), ids.get("2/6"), ids.get("4/21")]).toEqual([0, 30, 77, 99]);
    for await (const { id, name } of stream.stream({ ...request, epoch: 8 })) expect(id).toBe(ids.get(name));
  });

  test("without shuffling is in the listed order", async () => {
    const inOrder = counts.flatMap((count, shard) => Array.from({ length: count }, (_, position) => `${shard}/${position}`));
    expect(await namesOf(open(counts, { shuffle: false }))).toEqual(inOrder);
    const ranks = await ofRanks(open(counts, { shuffle: false }), 3);
    expect(ranks.flat()).toEqual(inOrder);
  });

  test("an error of a shard comes out, after what was before it", async () => {
    const [good, bad] = shardsOf([3, 3]);
    const failing: Shard = {
      ...bad!,
      async *open() {
        yield* good!.open({ shard: 1, from: 0, to: 1, stride: 1 }, null!);
        throw new Error("gone");
      },
    };
    const stream = new ShardStream([good!, failing], { shuffle: false });
    const names: string[] = [];
    await expect((async () => { for await (const { name } of stream.stream(request)) names.push(name); })()).rejects.toThrow("gone");
    expect(names).toEqual(["0/0", "0/1", "0/2", "0/0"]);
  });
});

describe("ranks", () => {
  test.each([1, 2, 3, 5, 8])("%d of them cover every image once where counts are known, evenly", async (worldSize) => {
    const counts = [13, 40, 1, 30, 22];
    const ranks = await ofRanks(open(counts), worldSize);
    expect(ranks.flat().sort()).toEqual(everyName(counts));
    const sizes = ranks.map((names) => names.length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  });

  test.each([2, 3, 5, 8, 11])("%d of them cover every image once where counts are not known", async (worldSize) => {
    const counts = [13, 40, 1, 30, 22];
    const stream = open(counts, { length: 106 }, false);
    const ranks = await ofRanks(stream, worldSize);
    expect(ranks.flat().sort()).toEqual(everyName(counts));
    // Whole shards while there are enough of them.
    const shardsOfRank = ranks.map((names) => new Set(names.map((name) => name.split("/")[0])).size);
    if (worldSize <= counts.length) expect(shardsOfRank.reduce((sum, shards) => sum + shards)).toBe(counts.length);
  });

  test("shares are read without what belongs to others", () => {
    const share = dealShards([2, 0, 1], [4, 5, 3], 1, 2);
    expect(share).toEqual([{ shard: 0, from: 3, to: 4, stride: 1 }, { shard: 1, from: 0, to: 5, stride: 1 }]);
    const every = { from: 1, to: Infinity, stride: 3 };
    expect(dealShards([1, 0], null, 1, 3)).toEqual([{ shard: 1, ...every }, { shard: 0, ...every }]);
  });

  test("outside the world are refused", () => {
    expect(() => open([1]).stream({ ...request, rank: 2, worldSize: 2 })).toThrow(DataOptionError);
  });
});

describe("the shuffle buffer", () => {
  const counts = Array.from({ length: 10 }, () => 200);

  test("mixes: places in shards and in the epoch have little to do with each other", async () => {
    const names = await namesOf(open(counts, { shuffleBuffer: 500, parallelShards: 4 }));
    const positions = names.map((name) => Number(name.split("/")[1]));
    // How far apart two neighbours of a shard come out, against the 667 of a perfect shuffle of 2000.
    const places = new Map(names.map((name, i) => [name, i]));
    let apart = 0;
    for (let shard = 0; shard < 10; shard++) {
      for (let position = 0; position < 199; position++) {
        apart += Math.abs(places.get(`${shard}/${position}`)! - places.get(`${shard}/${position + 1}`)!);
      }
    }
    expect(apart / 1990).toBeGreaterThan(250);
    // In a window of 100 images most shards come up; unshuffled it would be one.
    const window = new Set(names.slice(600, 700).map((name) => name.split("/")[0]));
    expect(window.size).toBeGreaterThanOrEqual(5);
    expect(positions.slice(0, 50)).not.toEqual([...positions.slice(0, 50)].sort((a, b) => a - b));
  });

  test("holds no more samples than its size, plus one under way per shard", async () => {
    const watch: Watch = { open: 0, begun: [], ended: 0 };
    const stream = new ShardStream(shardsOf(counts, true, 100, watch), { shuffleBuffer: 64, parallelShards: 3 });
    let most = 0;
    for await (const _image of stream.stream(request)) {
      most = Math.max(most, watch.open);
      watch.open--;
    }
    expect(most).toBeLessThanOrEqual(64 + 3);
    expect(most).toBeGreaterThanOrEqual(64);
  });

  test("holds no more bytes than its limit, plus one sample", async () => {
    const watch: Watch = { open: 0, begun: [], ended: 0 };
    const stream = new ShardStream(shardsOf(counts, true, 1000, watch), { shuffleBuffer: 500, maxBufferBytes: 40_000, parallelShards: 1 });
    let most = 0;
    const names: string[] = [];
    for await (const { name } of stream.stream(request)) {
      names.push(name);
      most = Math.max(most, watch.open);
      watch.open--;
    }
    expect(most).toBeLessThanOrEqual(40 + 2);
    expect(names.sort()).toEqual(everyName(counts));
  });

  test("shards that are read side by side give one image each in turn, and end with the consumer", async () => {
    const watch: Watch = { open: 0, begun: [], ended: 0 };
    const stream = new ShardStream(shardsOf([5, 5, 5, 5], true, 0, watch), { shuffleBuffer: 1, parallelShards: 2 });
    const names = await namesOf(stream);
    expect(names.slice(0, 10).map((name) => name.split("/")[1])).toEqual(["0", "0", "1", "1", "2", "2", "3", "3", "4", "4"]);
    expect(watch).toMatchObject({ ended: 4 });
    watch.ended = 0;
    watch.begun = [];
    await namesOf(stream, {}, 3);
    expect(watch.begun).toHaveLength(2);
    expect(watch.ended).toBe(2);
  });
});

describe("options", () => {
  test("a length is asked for where a shard does not know its own", () => {
    expect(() => new ShardStream(shardsOf([3, 4], false))).toThrow(
      "how many images there are is known only when shard 0 is read to its end; say it with --images N (length in code)",
    );
    expect(new ShardStream(shardsOf([3, 4], false), { length: 70 }).length).toBe(70);
    expect(new ShardStream(shardsOf([3, 4])).length).toBe(7);
    expect(new ShardStream(shardsOf([3, 4]), { length: 5 }).length).toBe(5);
  });

  test("outside their range are refused", () => {
    for (const bad of [{ shuffleBuffer: 0 }, { maxBufferBytes: -1 }, { parallelShards: 1.5 }, { length: 0 }]) {
      expect(() => open([1], bad)).toThrow(new RegExp(`${Object.keys(bad)[0]!} is ${Object.values(bad)[0]!}; give a whole number from 1`));
    }
    expect(() => open([1], { shuffle: false, parallelShards: 2 })).toThrow(DataOptionError);
    expect(() => new ShardStream([])).toThrow("there is no shard; give at least one");
  });

  test("ids of shards without a count have room for each; more images than that are refused", async () => {
    const many = shardsOf(Array.from({ length: 70_000 }, () => 0), false);
    many[69_999] = { ...many[0]!, name: "the last", count: null, async *open() {
      yield { position: 5, name: "a", label: null, image: "a", bytes: 0 };
      yield { position: 32_768, name: "b", label: null, image: "b", bytes: 0 };
    } };
    const stream = new ShardStream(many.slice(69_990), { length: 1, shuffle: false });
    const ids: number[] = [];
    for await (const { id } of stream.stream(request)) ids.push(id);
    expect(ids).toEqual([9 * 2 ** 28 + 5, 9 * 2 ** 28 + 32_768]);
    await expect(namesOf(new ShardStream(many, { length: 1, shuffle: false })))
      .rejects.toThrow("the last: has more than the 32768 images that there are numbers for with 70000 shards; divide it, or list fewer");
  });
});
