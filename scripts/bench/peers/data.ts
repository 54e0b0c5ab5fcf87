// Our side of the data benchmark: each line of input is one request in JSON.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { drawView, ImagePool, TwoViewLoader, viewRecipes, type ImageSource } from "../../../lib/data/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { DataRequest, DataSettings, LoadAnswer, Stages, TrainAnswer, Training } from "../dataProtocol.js";

const { folder, imageSize, batch: batchSize, workers } = JSON.parse(process.argv[2] as string) as DataSettings;
const seed = 0;
torch.retainFreedMemory(); // as every training does

/** The files of a folder over and over, `length` in all. */
class RepeatedFiles implements ImageSource {
  readonly #paths: string[];

  constructor(readonly length: number) {
    const inside = join(folder, "all");
    this.#paths = readdirSync(inside).sort().map((name) => join(inside, name));
  }

  image(index: number): string {
    return this.#paths[index % this.#paths.length] as string;
  }
}

/** Wall time and CPU time of all of this process's threads since it was made, both in seconds. */
class Clock {
  readonly #cpu = process.cpuUsage();
  readonly #start = performance.now();

  read(): { seconds: number; cpuSeconds: number } {
    const seconds = (performance.now() - this.#start) / 1000;
    const { user, system } = process.cpuUsage(this.#cpu);
    return { seconds, cpuSeconds: (user + system) / 1e6 };
  }
}

function stagesOf(pool: ImagePool): Stages {
  const { read, decode, crop, colour, blur, write } = pool.stageSeconds();
  return { decode: read + decode, crop, colour, blur, normalise: write };
}

/** An epoch of the loader, whose consumer does nothing but throw the batches away. */
async function load(images: number, epoch: number, watchMemory: boolean): Promise<LoadAnswer> {
  await using loader = new TwoViewLoader(new RepeatedFiles(images), { batchSize, imageSize, seed, threads: workers, maxBad: 0 });
  const memory: [number, number][] = [];
  let loaded = 0;
  const clock = new Clock();
  for await (using batch of loader.epoch(epoch)) {
    loaded += batch.indices.length;
    if (watchMemory) memory.push([loaded, process.memoryUsage.rss()]);
  }
  return { images: loaded, ...clock.read(), stages: stagesOf(loader.pool), memory };
}

/** What is left to the CPU where a GPU augments: to decode, and to write both crops as bytes. */
async function crops(images: number, epoch: number): Promise<LoadAnswer> {
  const pool = new ImagePool(workers);
  const source = new RepeatedFiles(images);
  const recipes = viewRecipes();
  const render = async (first: number): Promise<void> => {
    const outputs = recipes.map(() => torch.keep(torch.empty([batchSize, 3, imageSize, imageSize], { dtype: "uint8" })));
    const requests = Array.from({ length: batchSize }, (_, row) => ({
      image: source.image(first + row),
      renderings: recipes.map((recipe, view) => (
        { output: view, row, crop: drawView(recipe, { seed, epoch, index: first + row, view }).crop }
      )),
    }));
    const outcomes = await pool.render(requests, outputs);
    for (const output of outputs) output.dispose();
    for (const outcome of outcomes) if ("reason" in outcome) throw new Error(outcome.reason);
  };
  const clock = new Clock();
  let before = Promise.resolve();
  let first = 0;
  for (; first + batchSize <= images; first += batchSize) {
    const next = render(first); // while the threads are still busy with the one before
    await before;
    before = next;
  }
  await before;
  const took = clock.read();
  const stages = stagesOf(pool);
  pool.close();
  return { images: first, ...took, stages, memory: [] };
}

/** Some steps of training, and how long each waited for its images, as the run's log has it. */
async function train({ encoder, imageSize: pixels, batchSize: batch, mlpDim, steps, threads }: Training): Promise<TrainAnswer> {
  const { pretrain } = await import("../../../lib/train/pretrain.js"); // here, as a process that only loads is measured without it
  const answer: TrainAnswer = { stepMs: [], waitMs: [] };
  const { moco } = await pretrain(
    {
      data: new RepeatedFiles(batch * steps), encoder, imageSize: pixels, batchSize: batch, mlpDim, optimizer: "adamw", lr: 1e-4, epochs: 1,
      warmupEpochs: 0, seed, threads, workers, device: "cpu",
    },
    {
      onStep: ({ stepMs, dataWaitMs }) => {
        answer.stepMs.push(stepMs);
        answer.waitMs.push(dataWaitMs);
      },
    },
  );
  moco.dispose();
  return answer;
}

function answer(request: Exclude<DataRequest, { do: "make" }>): Promise<LoadAnswer | TrainAnswer> {
  switch (request.do) {
    case "load":
      return load(request.images, request.epoch, request.watchMemory);
    case "crops":
      return crops(request.images, request.epoch);
    case "train":
      return train(request);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line) as Parameters<typeof answer>[0])));
}
