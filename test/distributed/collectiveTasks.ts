// What the ranks of collectives.test.ts and failures.test.ts do.
import { native } from "../../lib/native.js";
import type { ProcessGroup, Reduction } from "../../lib/distributed/index.js";
import * as torch from "../../lib/torch/index.js";
import type { DType } from "../../lib/torch/index.js";

/** Each rank's tensor is [rank + 1, 2 * (rank + 1)]. */
export function reduce(group: ProcessGroup, { dtype, op }: { dtype: DType; op: Reduction }): unknown {
  const tensor = torch.tensor([group.rank + 1, 2 * (group.rank + 1)]).to(dtype);
  return group.allReduce_(tensor, op).toArray();
}

export function reduceAll(group: ProcessGroup, cases: { dtype: DType; op: Reduction }[]): unknown {
  return cases.map((each) => reduce(group, each));
}

export function gatherAll(group: ProcessGroup, dtypes: DType[]): unknown {
  return dtypes.map((dtype) => group.allGather(torch.tensor([[group.rank, 1]]).to(dtype)).to("float64").toArray());
}

export function broadcastAll(group: ProcessGroup, dtypes: DType[]): unknown {
  const tensors = dtypes.map((dtype) => torch.tensor([group.rank, 3]).to(dtype));
  group.broadcast_(tensors, group.size - 1);
  return tensors.map((tensor) => tensor.to("float64").toArray());
}

export function layouts(group: ProcessGroup): unknown {
  const { rank } = group;
  const transposed = torch.arange(0, 6).reshape([2, 3]).to("float64").add(rank).t();
  group.allReduce_(transposed);
  const everySecond = torch.zeros([6]).slice(0, 0, 6, 2).fill_(rank + 1);
  group.allReduce_(everySecond);
  const channelsLast = torch.arange(0, 16).reshape([1, 2, 2, 4]).to("float32").contiguous({ memoryFormat: "channels_last" }).mul(rank);
  const rows = group.allGather(channelsLast);
  const column = torch.zeros([2, 2]).select(1, 0).fill_(rank);
  group.broadcast_([column], 1);
  return {
    transposed: transposed.toArray(), everySecond: everySecond.toArray(), rows: rows.shape, lastRow: rows.slice(0, 1, 2).flatten().toArray(),
    column: column.toArray(), scalar: group.allGather(torch.tensor(rank)).toArray(), empty: group.allGather(torch.zeros([0, 4])).shape,
  };
}

export function exchangeValues(group: ProcessGroup): unknown {
  return group.exchange({ rank: group.rank, text: "é".repeat(group.rank * 100), nested: [null, true] });
}

export function storeWork(group: ProcessGroup): unknown {
  const { store, rank } = group;
  store.set(`of/${rank}`, `value ${rank}`);
  store.get(`of/${rank}`); // answered once the value is there
  group.barrier("all have set");
  const other = store.get(`of/${(rank + 1) % group.size}`);
  store.add("sum", rank + 1);
  group.barrier("all have added");
  const sum = store.add("sum", 0);
  group.barrier("all have read");
  const deleted = rank === 0 ? [store.delete("of/0"), store.delete("of/0")] : null;
  return { other, sum, deleted, none: store.get("nothing") };
}

export async function waitForNothing(group: ProcessGroup): Promise<void> {
  await group.store.wait(["of/0", "never"], 100);
}

/** Shapes that differ between ranks. */
export function unequalGather(group: ProcessGroup): void {
  group.allGather(torch.zeros([group.rank + 1, 4]), "keys");
}

export function afterClose(group: ProcessGroup): unknown {
  group.close();
  group.close();
  try {
    group.barrier();
  } catch (error) {
    return (error as Error).message;
  }
  return null;
}

export function integerMean(group: ProcessGroup): void {
  group.allReduce_(torch.tensor(new Int32Array([1])), "mean");
}

/** One rank dies or hangs at step 3; the others are in a collective. */
export function fail(group: ProcessGroup, { rank, how }: { rank: number; how: "SIGKILL" | "SIGSTOP" | "throw" }): void {
  const tensor = torch.zeros([1000]);
  for (let step = 0; step < 100; step++) {
    native.setStep(step);
    if (step === 3 && group.rank === rank) {
      if (how === "throw") throw new Error("this rank's own trouble");
      process.kill(process.pid, how);
    }
    group.allReduce_(tensor, "sum", "findings");
  }
}

/** Memory in tensors before and after many collectives. */
export function leaks(group: ProcessGroup): unknown {
  const before = torch.memory().tensors;
  torch.scope(() => {
    for (let i = 0; i < 20; i++) group.allReduce_(group.allGather(torch.ones([3])));
  });
  return torch.memory().tensors - before;
}
