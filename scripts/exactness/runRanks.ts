import { spawn } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../lib/config.js";
import type { Placement } from "../../lib/distributed/index.js";
import { readRun, type Run } from "./compareRuns.js";
import type { CaseName } from "./cases.js";

/** What every process of a run is told. */
export interface RankJob {
  /** Folder of images. */
  data: string;
  /** Where rank 0 writes, one file for each case and precision. */
  out: string;
  cases: CaseName[];
  precisions: ("fp64" | "fp32")[];
  /** Steps of each. Default: all. */
  stopAfter?: number;
}

/** Trains the cases in `processes` processes of this machine. Gives what each case came to, by case and precision. */
export async function runRanks(job: RankJob, processes: number): Promise<Map<string, Run>> {
  const out = join(job.out, `of${processes}`);
  mkdirSync(out, { recursive: true });
  const port = await freePort();
  const placement = (rank: number): Placement => ({
    rank, worldSize: processes, localRank: rank, localWorldSize: processes, nodeRank: 0, masterAddress: "127.0.0.1", masterPort: port,
    backend: "gloo", externalStore: false, generation: "0",
  });
  await Promise.all(Array.from({ length: processes }, (_, rank) =>
    runRank({ ...job, out, placement: processes === 1 ? null : placement(rank) })));
  const names = job.cases.flatMap((name) => job.precisions.map((precision) => [name, precision] as const));
  const runs = new Map<string, Run>();
  for (const [name, precision] of names) runs.set(`${name}, ${precision}`, await readRun(join(out, `${name}-${precision}.pth`)));
  return runs;
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function runRank(job: RankJob & { placement: Placement | null }): Promise<void> {
  const script = fileURLToPath(new URL("./rank.js", import.meta.url));
  const env = childEnvironment({ OMP_NUM_THREADS: "1", MKL_NUM_THREADS: "1" });
  const child = spawn(process.execPath, [script, JSON.stringify(job)], { stdio: ["ignore", "inherit", "pipe"], env });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(`a process ended with ${code}:\n${stderr}`))));
  });
}
