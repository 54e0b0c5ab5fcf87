// One rank of a test: joins the group of its order, does its task, tells its end and exits. See rankProcesses.ts.
import { ProcessGroup } from "../../lib/distributed/index.js";
import * as torch from "../../lib/torch/index.js";
import type { RankOrder } from "./rankProcesses.js";

torch.setNumThreads(1);

process.once("message", async (message) => {
  const { module, task, placement, options, argument } = message as RankOrder;
  let end: object;
  try {
    const tasks = (await import(module)) as Record<string, (group: ProcessGroup, argument: unknown) => unknown>;
    using group = await ProcessGroup.join(placement, options);
    end = { value: await tasks[task]!(group, argument) };
  } catch (error) {
    const { name, message, ...facts } = error as Error & Record<string, unknown>;
    end = { error: { name, message, facts } };
  }
  process.send!(end, () => process.exit(0));
});
