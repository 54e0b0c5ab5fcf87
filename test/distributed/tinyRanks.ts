import { fileURLToPath } from "node:url";
import { freePort } from "../../scripts/exactness/runRanks.js";
import { startCommand } from "../cli/moco.js";
import type { TinyOutcome, TinyRank } from "./tinyRank.js";

const script = fileURLToPath(new URL("./tinyRank.js", import.meta.url));

/** Trains in several processes of this machine, each told what `jobOf` says of its rank; gives what each came to. */
export async function runTinyRanks(processes: number, jobOf: (rank: number) => Omit<TinyRank, "placement">): Promise<TinyOutcome[]> {
  const masterPort = await freePort();
  return Promise.all(Array.from({ length: processes }, async (_, rank) => {
    const placement = {
      rank, worldSize: processes, localRank: rank, localWorldSize: processes, nodeRank: 0, masterAddress: "127.0.0.1", masterPort,
      backend: "gloo", externalStore: false, generation: "0",
    } as const;
    const { code, stdout, stderr } = await startCommand(process.execPath, [script, JSON.stringify({ placement, ...jobOf(rank) })]);
    if (code !== 0) throw new Error(`rank ${rank} ended with ${code}:\n${stdout}${stderr}`);
    return JSON.parse(stdout) as TinyOutcome;
  }));
}
