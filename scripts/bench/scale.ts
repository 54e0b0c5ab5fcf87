import { execFileSync } from "node:child_process";
import { mkdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Sampler } from "../../lib/data/index.js";
import { dealShards } from "../../lib/data/shards/dealShards.js";
import { TarIndex } from "../../lib/data/shards/tarIndex.js";
import { Store } from "../../lib/distributed/index.js";
import { withMeasuredFolder } from "./measuredFolder.js";
import { say } from "./progress.js";
import { describeRun, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { writeShardIndex } from "./shardIndex.js";

const IMAGES_PER_SHARD = 10_000;
const MEMBERS = 4_000;

/**
 * What docs/scaling.md says about data and rendezvous, measured: the order of an epoch, opening the index of shards whose images are only
 * named (no pixel exists), reading the headers of a real tar file, and clients that meet at a store. Ratios are over what the memory or the
 * count alone would make: 1 is as derived.
 */
export async function benchmarkScale({ quick, dir }: BenchmarkOptions): Promise<BenchmarkResult> {
  return withMeasuredFolder({ dir }, async (folder) => {
    const orders = [];
    for (const images of quick ? [1e6] : [1e7, 1e8]) orders.push(await measureOrder(images));
    const shards = [];
    for (const count of quick ? [1_000] : [10_000, 100_000]) shards.push(await measureShards(join(folder, String(count)), count));
    const headers = await measureHeaders(join(folder, "tar"));
    const stores = [];
    for (const clients of quick ? [16] : [64, 256]) stores.push(await measureStore(clients));
    const [order, last] = [orders.at(-1)!, shards.at(-1)!];
    const { name, ...rest } = describeRun("scale", null, { imagesPerShard: IMAGES_PER_SHARD, members: MEMBERS });
    return {
      name, ...rest,
      ratios: { orderBytesPerImage: order.bytes / order.images / 4, indexBytesPerShard: last.bytes / last.shards / 1000 },
      meanings: { orderBytesPerImage: "x 4 bytes an image", indexBytesPerShard: "kB of memory a shard" },
      raw: { orders, shards, headers, stores },
    };
  });
}

/** JavaScript's objects and arrays that are in use, what nobody holds any more taken out. */
async function memory(): Promise<number> {
  await pause(50); // so that no frame of what came before holds anything
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const since = (start: number): number => (performance.now() - start) / 1000;

/** The order of an epoch on one rank: seconds and memory. */
async function measureOrder(images: number): Promise<{ images: number; seconds: number; bytes: number }> {
  const before = process.memoryUsage().rss;
  const start = performance.now();
  const order = await new Sampler(images, { seed: 0, rank: 3, worldSize: 1024 }).order(0);
  const seconds = since(start);
  const bytes = process.memoryUsage().rss - before; // shared memory, which the heap does not count
  order.at(0);
  return report("order", { images, seconds, bytes });
}

/** Opening shards whose index is in the cache, as each rank of a training does: one look at each file, and an object for each. */
async function measureShards(folder: string, count: number) {
  mkdirSync(folder, { recursive: true });
  const paths = Array.from({ length: count }, (_, i) => join(folder, `train-${String(i).padStart(6, "0")}.tar`));
  for (const path of paths) {
    writeFileSync(path, "");
    truncateSync(path, IMAGES_PER_SHARD * 100_000); // a hole: it takes no room
  }
  const cache = join(folder, "cache");
  const file = await writeShardIndex(paths, cache, IMAGES_PER_SHARD);
  const before = await memory();
  const start = performance.now();
  const index = await TarIndex.open(paths, cache);
  const seconds = since(start);
  const bytes = (await memory()) - before;
  const counts = index.shards.map(({ images }) => images);
  const dealing = performance.now();
  const parts = dealShards(Uint32Array.from(counts, (_, i) => i), counts, 3, 1024);
  return report("shards", {
    shards: count, images: count * IMAGES_PER_SHARD, seconds, bytes, dealSeconds: since(dealing), partsOfARank: parts.length, fileBytes: statSync(file).size,
  });
}

/** Reading a tar file's headers, which the first opening does to all shards; and what the index keeps of an image. */
async function measureHeaders(folder: string) {
  const images = join(folder, "images");
  mkdirSync(images, { recursive: true });
  for (let i = 0; i < MEMBERS; i++) writeFileSync(join(images, `${String(i).padStart(9, "0")}.jpg`), Buffer.alloc(2_000, i));
  const tar = join(folder, "one.tar");
  execFileSync("tar", ["--format=ustar", "-C", images, "-cf", tar, "."]);
  const cache = join(folder, "cache");
  const start = performance.now();
  const index = await TarIndex.open([tar], cache);
  const seconds = since(start);
  const [file] = execFileSync("ls", [cache], { encoding: "utf8" }).trim().split("\n");
  const opening = performance.now();
  await index.contents(0);
  return report("headers", {
    images: MEMBERS, seconds, imagesPerSecond: MEMBERS / seconds, indexBytesPerImage: statSync(join(cache, file!)).size / MEMBERS, contentsSeconds: since(opening),
  });
}

/** Clients that connect to one store one after the other, add to a counter and read each other's address: a rendezvous. All are in this process, as is the server. */
async function measureStore(clients: number) {
  const host = "localhost";
  const server = await Store.connect({ host, port: 0, serve: true });
  const start = performance.now();
  const stores: Store[] = [];
  while (stores.length < clients) stores.push(await Store.connect({ host, port: server.port }));
  const connectSeconds = since(start);
  const meeting = performance.now();
  stores.forEach((store, rank) => {
    store.set(`address/${rank}`, `10.0.0.${rank}:29500`);
    store.add("joined", 1);
  });
  for (const store of stores) store.get(`address/${clients - 1}`);
  const meetSeconds = since(meeting);
  for (const store of [...stores, server]) store.close();
  return report("store", { clients, connectSeconds, meetSeconds, requestsPerSecond: (3 * clients) / meetSeconds });
}

function report<T extends object>(what: string, figures: T): T {
  say(`${what} ${JSON.stringify(figures)}`);
  return figures;
}
