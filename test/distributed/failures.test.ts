import { createServer } from "node:net";
import { describe, expect, test } from "@jest/globals";
import { ProcessGroup, Store } from "../../lib/distributed/index.js";
import { freePort, loopback, runRanks, startRank, type RankEnd } from "../support/rankProcesses.js";

const tasks = new URL("./collectiveTasks.js", import.meta.url).href;

const order = (rank: number, worldSize: number, port: number, changes = {}, joinTimeoutMs = 1500) => ({
  module: tasks, task: "exchangeValues", placement: loopback(rank, worldSize, port, changes), options: { timeoutMs: 5000, joinTimeoutMs }, argument: null,
});

describe("ranks that do not come together", () => {
  test("a rank that does not come is named by those that did, and a master that nobody reaches with what to check", async () => {
    const [port, other] = [await freePort(), await freePort()];
    const [first, third, lost] = (await Promise.all([
      ...[0, 2].map((rank) => startRank(order(rank, 4, port))), startRank(order(1, 2, other)),
    ])) as [RankEnd<unknown>, RankEnd<unknown>, RankEnd<unknown>];
    expect(first.error?.name).toBe("RendezvousError");
    expect(first.error?.message).toMatch(/rank 0 waited 1\.\d s at 127\.0\.0\.1:\d+ for 4 ranks, and ranks 1, 3 did not come: start them/);
    expect(first.error?.facts.missing).toEqual([1, 3]);
    expect(third.error?.name).toBe("RendezvousError");
    expect(lost.error).toMatchObject({ name: "RendezvousError" });
    expect(lost.error!.message).toMatch(new RegExp(`127\\.0\\.0\\.1:${other}, where the ranks are to meet, could not be reached within .* firewall`));
  });

  test("a master's name that nobody knows, and a network interface that is not there, are named", async () => {
    const port = await freePort();
    await expect(ProcessGroup.join(loopback(0, 1, port, { masterAddress: "no-such-host.invalid" }))).rejects.toThrow(/no-such-host\.invalid is unknown here/);
    process.env.MOCO_SOCKET_IFNAME = "no-such-interface";
    try {
      await expect(ProcessGroup.join(loopback(0, 1, port))).rejects.toThrow(/no network interface no-such-interface, only .*lo/);
    } finally {
      delete process.env.MOCO_SOCKET_IFNAME;
    }
  });

  test("a port that is taken is named", async () => {
    const server = createServer();
    const port = await new Promise<number>((resolve) => server.listen(0, () => resolve((server.address() as { port: number }).port)));
    try {
      await expect(ProcessGroup.join(loopback(0, 1, port))).rejects.toThrow(`port ${port} of this machine, on which the ranks are to meet, is taken`);
    } finally {
      server.close();
    }
  });

  test("two processes of the same rank, and ranks that disagree about their number, say so", async () => {
    const port = await freePort();
    const other = await freePort();
    const [twice, unequal] = await Promise.all([
      Promise.all([0, 1, 1].map((rank) => startRank(order(rank, 3, port)))),
      Promise.all([startRank(order(0, 2, other)), startRank(order(1, 3, other))]),
    ]);
    expect(twice.map(({ error }) => error!.message).join("\n")).toMatch(/there is a rank 1 at .* already/);
    expect(unequal.map(({ error }) => error!.message).join("\n")).toMatch(/rank \d has the worldSize \d and rank \d has \d: start all ranks/);
  });

  test("a placement that cannot be is refused", async () => {
    const wrong: [Parameters<typeof loopback>[3], RegExp][] = [
      [{ rank: 2 }, /rank is 2; with a worldSize of 2 it is a whole number from 0 to 1/],
      [{ rank: -1 }, /rank is -1/],
      [{ worldSize: 0 }, /worldSize is 0/],
      [{ masterPort: 70000 }, /masterPort is 70000; it is a whole number from 1 to 65535/],
      [{ masterAddress: "" }, /masterAddress is empty/],
      [{ backend: "mpi" as "gloo" }, /backend is "mpi"; use "gloo"/],
      [{ backend: "nccl" }, /needs the addon for CUDA/],
    ];
    for (const [changes, message] of wrong) await expect(ProcessGroup.join(loopback(0, 2, 29500, changes))).rejects.toThrow(message);
  });

  test("a launcher may host the store, and a restart does not meet what an earlier start left", async () => {
    using store = await Store.connect({ host: "127.0.0.1", port: 0, serve: true });
    for (const generation of ["0", "1"]) {
      const ends = await Promise.all(
        [0, 1].map((rank) => startRank<{ rank: number }[]>(order(rank, 2, store.port, { externalStore: true, generation }, 20_000))),
      );
      expect(ends.map(({ value }) => value?.map((each) => each.rank))).toEqual([[0, 1], [0, 1]]);
    }
  });
});

describe("ranks that fail in a collective", () => {
  const survivors = (ends: RankEnd<unknown>[], failed: number) => ends.filter((_, rank) => rank !== failed);

  test.each([["killed", 1, "SIGKILL"], ["ended by its own error", 2, "throw"]] as const)(
    "a rank that is %s is named by all others, with step and collective", async (_, rank, how) => {
      const ends = await runRanks(3, tasks, "fail", { rank, how }, { timeoutMs: 30_000 });
      for (const { error } of survivors(ends, rank)) {
        expect(error).toMatchObject({ name: "CollectiveError", facts: { step: 3, collective: "findings", silent: [rank], timedOut: false } });
        expect(error!.message).toMatch(new RegExp(`at step 3: the collective "findings" broke after .* rank ${rank} is gone`));
      }
    },
  );

  test("when rank 0 dies, with it the store, the others say so", async () => {
    const ends = await runRanks(3, tasks, "fail", { rank: 0, how: "SIGKILL" }, { timeoutMs: 30_000 });
    for (const { error } of survivors(ends, 0)) {
      expect(error).toMatchObject({ name: "CollectiveError", facts: { step: 3, collective: "findings" } });
      expect(error!.message).toMatch(/store does not answer: rank 0, or the launcher that serves it, is gone/);
    }
  });

  test("a rank that hangs is named when the collective's time is over", async () => {
    const ends: RankEnd<unknown>[] = [];
    const port = await freePort();
    const run = [0, 1, 2].map((rank) =>
      startRank({ module: tasks, task: "fail", placement: loopback(rank, 3, port), options: { timeoutMs: 3000 }, argument: { rank: 1, how: "SIGSTOP" } }));
    ends[0] = await run[0]!;
    ends[2] = await run[2]!;
    for (const { error } of [ends[0], ends[2]]) {
      expect(error).toMatchObject({ name: "CollectiveError", facts: { step: 3, collective: "findings", silent: [1], timedOut: true } });
    }
  });

  test("keys of different numbers on the ranks are refused by all, with the shapes", async () => {
    for (const { error } of await runRanks(2, tasks, "unequalGather")) {
      expect(error!.message).toMatch(/collective "keys" needs the same type and shape on all ranks: rank 0 has Float \[1, 4\], rank 1 has Float \[2, 4\]/);
    }
  });

  test("what cannot be reduced, and keys that never come, say so", async () => {
    const [[mean], [wait]] = (await Promise.all(["integerMean", "waitForNothing"].map((task) => runRanks(1, tasks, task)))) as [RankEnd<unknown>[], RankEnd<unknown>[]];
    expect(mean!.error!.message).toMatch(/mean of a tensor of int32 is not whole/);
    expect(wait!.error!.message).toMatch(/after 0\.1 s the store at .* has no of\/0, never/);
  });
});
