import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as wait } from "node:timers/promises";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createModel, encoderFromStateDict, VisionTransformer } from "../../lib/models/index.js";
import { Embedder } from "../../lib/train/embedder/embedder.js";
import { FeatureExtractor } from "../../lib/train/features.js";
import { withMeasuredFolder } from "./measuredFolder.js";
import { say } from "./progress.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { ExampleServer, loadServer, writePictures, type LoadResult } from "./serveLoad.js";

const FULL = { amount: 10_000, loads: [1, 4, 16, 64], each: 400, pictures: 64, loop: 64 };
const QUICK = { amount: 300, loads: [1, 8], each: 60, pictures: 16, loop: 8 };

/** A small encoder: 48-pixel input, 36 tokens of 96, 4 blocks; 0.6 million parameters. */
const encoder = { imageSize: 48, patchSize: 8, embedDim: 96, depth: 4, numHeads: 3, numClasses: 0 };

const MEANINGS = {
  memoryGrowth: "x: the server's resident memory in the last quarter of the requests over that in the second; 1 is flat",
  eventLoopDelay: "x: the longest time that the event loop stood still beside Embedder, over that with the network on its thread",
};

/**
 * The example server under load: latency by the number of connections, memory over 10,000 requests, and how long the event loop stands still
 * while pictures are embedded. Every answer is looked at: the picture that was sent must be the most similar one.
 */
export async function benchmarkServe(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const extent = options.quick ? QUICK : FULL;
  return withMeasuredFolder(options, async (folder) => {
    const checkpoint = join(folder, "encoder.pth");
    using model = new VisionTransformer(encoder);
    await writeCheckpoint(checkpoint, { state_dict: model.stateDict(), moco_v3_run: { num_heads: encoder.numHeads } });
    const pictures = await writePictures(join(folder, "pictures"), extent.pictures);
    const server = await ExampleServer.start(["--pretrained", checkpoint, "--images", join(folder, "pictures"), "--threads", String(options.threads)]);
    const latencies: Record<string, Omit<LoadResult, "memory">> = {};
    let long: LoadResult;
    try {
      await loadServer(server, pictures, { amount: extent.each, connections: 4 }); // warms up
      for (const connections of extent.loads) {
        const { memory: _memory, ...result } = await loadServer(server, pictures, { amount: extent.each, connections });
        latencies[connections] = result;
        say(`${connections} connections: p50 ${result.latency.p50} ms, p99 ${result.latency.p99} ms, ${result.requestsPerSecond.toFixed(0)} requests/s`);
      }
      long = await loadServer(server, pictures, { amount: extent.amount, connections: 16 });
      say(`${extent.amount} requests: p50 ${long.latency.p50} ms, p99 ${long.latency.p99} ms, ${long.wrong} wrong`);
    } finally {
      await server.stop();
    }
    const loop = await measureEventLoop(folder, pictures.map(({ bytes }) => bytes).slice(0, extent.loop), options.threads);
    const quarter = (from: number): number =>
      median(long.memory.filter(({ answers }) => answers >= from * extent.amount && answers <= (from + 0.25) * extent.amount).map(({ bytes }) => bytes));
    const settings = { encoder, pictures: extent.pictures, pictureSide: 96, amount: extent.amount, connections: 16, threads: options.threads };
    return {
      ...describeRun("serve", null, settings),
      ratios: { memoryGrowth: quarter(0.75) / quarter(0.25), eventLoopDelay: loop.embedder.maxMs / loop.extractor.maxMs },
      meanings: MEANINGS,
      raw: { latencies, long, eventLoop: loop },
    };
  });
}

interface Delay {
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
}

/** How late timers are while vit_small embeds pictures at 224 pixels: by Embedder, and by FeatureExtractor on the event loop's own thread. */
async function measureEventLoop(folder: string, pictures: readonly Buffer[], threads: number): Promise<{ embedder: Delay; extractor: Delay }> {
  const path = join(folder, "vit_small.pth");
  using model = createModel("vit_small", { numClasses: 0 }) as VisionTransformer;
  await writeCheckpoint(path, { state_dict: model.stateDict() });
  using same = encoderFromStateDict(model.stateDict());
  const during = async (work: () => Promise<unknown>): Promise<Delay> => {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await work();
    await wait(50); // a loop that stood still tells of it at its next turn
    delay.disable();
    const ms = (nanoseconds: number): number => Math.round(nanoseconds / 1e4) / 100;
    return { p50Ms: ms(delay.percentile(50)), p99Ms: ms(delay.percentile(99)), maxMs: ms(delay.max) };
  };
  await using embedder = await Embedder.load(path, { threads, batchSize: 16 });
  await embedder.embed(pictures.slice(0, 1)); // warms up
  const beside = await during(() => embedder.embed(pictures));
  const extractor = new FeatureExtractor(same, { batchSize: 16 });
  const on = await during(async () => (await extractor.extract({ length: pictures.length, image: (index) => pictures[index]! }))[Symbol.dispose]());
  return { embedder: beside, extractor: on };
}
