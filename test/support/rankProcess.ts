// One rank of a test: joins the group of its order, does its task, tells its end and exits, or stays for the next. See rankProcesses.ts.
import { ProcessGroup } from "../../lib/distributed/index.js";
import * as torch from "../../lib/torch/index.js";
import type { RankOrder } from "./rankProcesses.js";

torch.setNumThreads(1);

/** Of orders that stay. */
let kept: ProcessGroup | null = null;

process.on("message", (message) => void obey(message as RankOrder));

async function obey(order: RankOrder): Promise<void> {
  const { module, task, placement, options, argument, stays = false } = order;
  let end: object;
  try {
    const tasks = (await import(module)) as Record<string, (group: ProcessGroup, argument: unknown) => unknown>;
    if (stays) {
      kept ??= await ProcessGroup.join(placement, options);
      end = { value: await tasks[task]!(kept, argument) };
    } else {
      using group = await ProcessGroup.join(placement, options);
      end = { value: await tasks[task]!(group, argument) };
    }
  } catch (error) {
    const { name, message, ...facts } = error as Error & Record<string, unknown>;
    end = { error: { name, message, facts } };
  }
  process.send!(end, () => stays || process.exit(0));
}
