/** A fresh process that reads one file and prints how far its resident memory rose. */
import { readCheckpoint } from "../../lib/checkpoint/readCheckpoint.js";
import { CheckpointError } from "../../lib/checkpoint/error.js";
import { MemoryPeak } from "./processMemory.js";

const [warmUp, path] = process.argv.slice(2) as [string, string];
await readCheckpoint(warmUp); // loads libtorch and what else is loaded at the first use
const peak = new MemoryPeak();
const started = performance.now();
let outcome: { refused: string | null; offset: number | null };
try {
  await readCheckpoint(path, { unknownGlobals: "placeholder" });
  outcome = { refused: null, offset: null };
} catch (error) {
  if (!(error instanceof CheckpointError)) throw error;
  outcome = { refused: error.reason.slice(0, 200), offset: error.offset };
}
console.log(JSON.stringify({ ...outcome, rise: peak.rise(), seconds: (performance.now() - started) / 1000 }));
