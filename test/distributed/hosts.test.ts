/**
 * The command on several hosts: network namespaces, where this machine lets its user make them; else skipped. And started by torchrun, and by
 * itself for each GPU of a machine that is said to have some.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { freePort } from "../../scripts/exactness/runRanks.js";
import { writePieces } from "../../scripts/exactness/writePieces.js";
import type { GroupFlags } from "../../lib/cli/joinGroup.js";
import { addPretrainFlags } from "../../lib/cli/pretrainFlags.js";
import { disposeTensors, readCheckpoint } from "../../lib/checkpoint/index.js";
import { readRunLog } from "../../lib/report/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { mainScript, startCommand, type Outcome } from "../cli/moco.js";
import { numbers, relativeL2 } from "../support/digest.js";
import { NetworkHosts } from "../support/networkHosts.js";
import { testPython } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("hosts");
const training = (
  "pretrain photos -a resnet_tiny --image-size 32 -b 12 --optimizer adamw --lr 0.02 --warmup-epochs 0.25 --epochs 2 --stop-after 3 --moco-dim 16 " +
  "--moco-mlp-dim 32 --moco-t 0.2 --seed 5 --precision fp64 --device cpu --threads 1 -j 1 --quiet --json"
).split(" ");

/** The processes of all hosts and launchers know the tiny networks: a real one's checkpoint takes longer than its steps. */
const environment = ["env", `NODE_OPTIONS=--import=${new URL("../../scripts/faults/soak/tinyArchitectures.js", import.meta.url).href}`];

function start(prefix: readonly string[], words: readonly string[]): Promise<Outcome> {
  return run([...prefix, ...environment, process.execPath, mainScript, ...training, ...words]);
}

function run([command, ...words]: readonly string[]): Promise<Outcome> {
  return startCommand(command!, words, { cwd: folder });
}

/** `--multiprocessing-distributed` on a machine with two GPUs, as far as one without can tell: what it starts trains on the CPU. */
function startSpawning(prefix: readonly string[], placement: string, out: string | null): Promise<Outcome> {
  const script = fileURLToPath(new URL("./spawnScript.js", import.meta.url));
  const words = [...training, ...placement.split(" ")];
  const command = addPretrainFlags(new Command()).argument("<command>").argument("<data>").parse(words, { from: "user" });
  const job = { gpus: 2, flags: command.opts<GroupFlags>(), words, folder: out };
  return run([...prefix, ...environment, process.execPath, script, JSON.stringify(job)]);
}

async function weightsIn(out: string): Promise<Float64Array> {
  const value = await readCheckpoint<{ state_dict: Map<string, Tensor> }>(join(folder, out, "last.pth.tar"));
  try {
    return Float64Array.from([...value.state_dict].filter(([key]) => !key.endsWith("num_batches_tracked")).flatMap(([, tensor]) => [...numbers(tensor)]));
  } finally {
    disposeTensors(value);
  }
}

/** One process's losses and weights, and those of several, are the same to 1e-6. */
async function expectAsOne(outcomes: readonly Outcome[], out: string): Promise<void> {
  for (const { code, stderr } of outcomes) if (code !== 0) throw new Error(`exit code ${code}\n${stderr}`);
  expect(outcomes.slice(1).map(({ stdout }) => stdout)).toEqual(outcomes.slice(1).map(() => "")); // rank 0 prints
  const [losses, expected] = [out, "one"].map((name) => readRunLog(join(folder, name, "log.jsonl")).steps.map(({ loss }) => loss)) as [number[], number[]];
  expect(losses).toHaveLength(3);
  expect(relativeL2(losses, expected)).toBeLessThan(1e-6);
  expect(relativeL2(await weightsIn(out), await weightsIn("one"))).toBeLessThan(1e-6);
}

beforeAll(async () => {
  await writePieces(join(folder, "photos"), 49);
  const outcome = await start([], ["--out", "one"]);
  if (outcome.code !== 0) throw new Error(outcome.stderr);
}, 240_000);

test("two processes of one machine, started for its GPUs", async () => {
  const outcome = await startSpawning([], "--multiprocessing-distributed", "spawned");
  await expectAsOne([outcome], "spawned");
  expect(readRunLog(join(folder, "spawned", "log.jsonl")).runs[0]!.options).toMatchObject({ worldSize: 2 });
}, 240_000);

test("what the processes are told to do wrong ends all of them, with their exit code", async () => {
  const { code, stdout, stderr } = await startSpawning([], "--multiprocessing-distributed --world-size 1 --rank 0 --resume nowhere", "nothing");
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/nowhere/);
}, 240_000);

(NetworkHosts.arePossible() ? describe : describe.skip)("hosts of their own networks", () => {
  test("three, by upstream's flags", async () => {
    using hosts = new NetworkHosts(3);
    const words = (rank: number): string[] =>
      `--dist-url tcp://${hosts.address(0)}:10001 --multiprocessing-distributed --world-size 3 --rank ${rank} --out three`.split(" ");
    await expectAsOne(await Promise.all([0, 1, 2].map((rank) => start(hosts.on(rank, []), words(rank)))), "three");
  }, 240_000);

  test("two with two GPUs each, by upstream's flags, which count hosts", async () => {
    using hosts = new NetworkHosts(2);
    const flags = (rank: number): string => `--dist-url tcp://${hosts.address(0)}:10001 --multiprocessing-distributed --world-size 2 --rank ${rank}`;
    await expectAsOne(await Promise.all([0, 1].map((rank) => startSpawning(hosts.on(rank, []), flags(rank), "four"))), "four");
    expect(readRunLog(join(folder, "four", "log.jsonl")).runs[0]!.options).toMatchObject({ worldSize: 4 });
  }, 240_000);

  test("two, by Slurm's variables", async () => {
    using hosts = new NetworkHosts(2);
    const variables = (rank: number): string[] => [
      "SLURM_NTASKS=2", `SLURM_PROCID=${rank}`, "SLURM_LOCALID=0", `SLURM_NODEID=${rank}`, "SLURM_JOB_ID=77", "SLURM_STEP_ID=0",
      `SLURM_JOB_NODELIST=${hosts.address(0).replace(/1$/, "[1-2]")}`, "SLURM_TASKS_PER_NODE=1(x2)",
    ];
    await expectAsOne(await Promise.all([0, 1].map((rank) => start(hosts.on(rank, ["env", ...variables(rank)]), ["--out", "slurm"]))), "slurm");
  }, 240_000);
});

(testPython === null ? test.skip : test)("torchrun starts two", async () => {
  const port = await freePort();
  const launcher = [testPython!, ..."-m torch.distributed.run --no-python --nproc-per-node 2 --master-port".split(" "), String(port)];
  const outcome = await run([...environment, ...launcher, process.execPath, mainScript, ...training, "--out", "torchrun"]);
  await expectAsOne([outcome], "torchrun");
  expect((JSON.parse(outcome.stdout) as { steps: number }).steps).toBe(3);
}, 180_000);
