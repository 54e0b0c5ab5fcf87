/** `moco` with `--multiprocessing-distributed`, as it starts on a machine that has the GPUs it is told of. */
import { startProcessPerGpu } from "../../lib/cli/processPerGpu.js";
import type { GroupFlags } from "../../lib/cli/joinGroup.js";

const { gpus, flags, words, folder } = JSON.parse(process.argv[2]!) as { gpus: number; flags: GroupFlags; words: string[]; folder: string | null };
const code = await startProcessPerGpu({ flags, words, folder }, { gpus, device: null });
if (code === null) throw new Error("this process is to train itself");
process.exitCode = code;
