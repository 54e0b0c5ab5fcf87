// Our side of the checkpoint benchmark: each line of input is one request in JSON.
import { writeFileSync } from "node:fs";
import { open, unlink } from "node:fs/promises";
import { createInterface } from "node:readline";
import { addPrefix, BackgroundWriter, disposeTensors, readCheckpoint, writeCheckpoint } from "../../../lib/checkpoint/index.js";
import { diskFiles, type FileLayer } from "../../../lib/checkpoint/files/durableFile.js";
import { createMoCo } from "../../../lib/moco/index.js";
import { AdamW } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { StallAnswer } from "../checkpoint.js";
import { processMemory } from "../processMemory.js";

/** What a process is asked to measure. */
export type CheckpointRequest =
  | { do: "make"; arch: string; mlpDim: number; path: string }
  | { do: "load"; path: string }
  | { do: "hold"; path: string }
  | { do: "save"; path: string; durable: boolean }
  | { do: "stall"; path: string; rounds: number };

const { threads } = JSON.parse(process.argv[2] as string) as { threads: number };
torch.setNumThreads(threads);
let held: unknown = null;

/** A run's checkpoint after one step, all of whose tensors hold noise. */
async function make(arch: string, mlpDim: number, path: string): Promise<void> {
  torch.manualSeed(0);
  const moco = createMoCo({ encoder: arch, mlpDim });
  const optimizer = new AdamW(moco.parameters(), { lr: 1e-4, weightDecay: 0.1 });
  for (const parameter of moco.parameters()) if (parameter.requiresGrad) parameter.grad = torch.randnLike(parameter.detach());
  torch.noGrad(() => optimizer.step());
  await writeCheckpoint(path, {
    epoch: 1, arch, state_dict: addPrefix(moco.stateDict()), optimizer: optimizer.stateDict(), scaler: {},
  });
}

/** Sets the largest resident size back to the present one. */
function forgetPeak(): void {
  writeFileSync("/proc/self/clear_refs", "5");
}

/** As `torch.save` writes: what the file holds is left to the system to bring to the disk some time. */
const withoutSync: FileLayer = {
  ...diskFiles,
  async create(path) {
    const handle = await open(path, "wx");
    return {
      write: async (bytes) => (await handle.write(bytes)).bytesWritten,
      sync: async () => undefined,
      close: () => handle.close(),
    };
  },
  syncFolder: async () => undefined,
};

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A training loop as far as saving is concerned: steps that hold this thread and libtorch's, and a turn of the event loop in between. */
async function trainUntil(isDone: () => boolean): Promise<number> {
  const matrix = torch.randn([1024, 1024]);
  const start = performance.now();
  let steps = 0;
  do {
    torch.scope(() => {
      for (let i = 0; i < 10; i++) torch.mm(matrix, matrix);
    });
    steps++;
    await turn();
  } while (!isDone());
  matrix.dispose();
  return (performance.now() - start) / 1000 / steps;
}

async function measureStall(path: string, rounds: number): Promise<StallAnswer> {
  const synchronous: number[] = [];
  const stalls: number[] = [];
  const written: number[] = [];
  let step = 0;
  await using writer = new BackgroundWriter();
  writer.reserve(held);
  const reserved = performance.now();
  await trainUntil(() => performance.now() - reserved > 20_000); // in a real run, minutes lie between the first step and the first save
  for (let round = 0; round <= rounds; round++) {
    const begun = performance.now();
    await writeCheckpoint(path, held);
    synchronous.push((performance.now() - begun) / 1000);
    const start = performance.now();
    let done = false;
    const { stallMs, done: finished } = await writer.save(path, held);
    const marked = finished.then(() => (done = true));
    step = await trainUntil(() => done);
    await marked;
    stalls.push(stallMs / 1000);
    written.push((performance.now() - start) / 1000);
  }
  await unlink(path);
  const [first, ...following] = stalls as [number, ...number[]];
  return { synchronous, first, following, written, step };
}

async function answer(request: CheckpointRequest): Promise<Record<string, unknown>> {
  const start = performance.now();
  const seconds = (): number => (performance.now() - start) / 1000;
  switch (request.do) {
    case "make":
      await make(request.arch, request.mlpDim, request.path);
      return { seconds: seconds() };
    case "hold":
      held = await readCheckpoint(request.path);
      return { seconds: seconds() };
    case "load": {
      forgetPeak();
      const before = processMemory("self").now;
      const begun = performance.now();
      const value = await readCheckpoint(request.path);
      const took = (performance.now() - begun) / 1000;
      const extraBytes = processMemory("self").peak - before;
      disposeTensors(value);
      return { seconds: took, extraBytes };
    }
    case "save": {
      await writeCheckpoint(request.path, held, request.durable ? {} : { files: withoutSync });
      const took = seconds();
      await unlink(request.path);
      return { seconds: took };
    }
    case "stall":
      return { ...(await measureStall(request.path, request.rounds)) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line) as CheckpointRequest)));
}
