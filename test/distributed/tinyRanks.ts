import { fileURLToPath } from "node:url";
import { freePort } from "../../scripts/exactness/runRanks.js";
import { startCommand } from "../cli/moco.js";
import type { TinyJob, TinyOutcome } from "./tinyRank.js";

const script = fileURLToPath(new URL("./tinyRank.js", import.meta.url));

/** Trains in several processes of this machine, each told what `jobOf` says of its rank; gives what each came to. */
export async function runTinyRanks(processes: number, jobOf: (rank: number) => TinyJob): Promise<TinyOutcome[]> {
  return (await runTinyTrainings(processes, [jobOf]))[0]!;
}

/** The same of several trainings, one after the other in the same processes: most of the time of one is their start. */
export async function runTinyTrainings(processes: number, jobsOf: readonly ((rank: number) => TinyJob)[]): Promise<TinyOutcome[][]> {
  const masterPort = await freePort();
  const ofRanks = await Promise.all(Array.from({ length: processes }, async (_, rank) => {
    const placement = {
      rank, worldSize: processes, localRank: rank, localWorldSize: processes, nodeRank: 0, masterAddress: "127.0.0.1", masterPort,
      backend: "gloo", externalStore: false, generation: "0",
    } as const;
    const jobs = jobsOf.map((jobOf) => jobOf(rank));
    const { code, stdout, stderr } = await startCommand(process.execPath, [script, JSON.stringify({ placement, jobs })]);
    if (code !== 0) throw new Error(`rank ${rank} ended with ${code}:\n${stdout}${stderr}`);
    return JSON.parse(stdout) as TinyOutcome[];
  }));
  return jobsOf.map((_, i) => ofRanks.map((outcomes) => outcomes[i]!));
}
