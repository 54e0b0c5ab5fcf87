import { afterAll, describe, expect, test } from "@jest/globals";
import { catchMistakes } from "../../scripts/faults/campaign.js";
import { CheckpointContents } from "../../scripts/faults/checkpointContents.js";
import { crashStates } from "../../scripts/faults/crashStates.js";
import { fillDisks, whyNoSmallDisk } from "../../scripts/faults/fullDisk.js";
import { killProcesses } from "../../scripts/faults/killedProcesses.js";
import { MISTAKES } from "../../scripts/faults/mistakes.js";
import { SCENARIOS } from "../../scripts/faults/scenarios.js";
import { SimulatedDisk, type Listing } from "../../scripts/faults/simulatedDisk.js";
import { Simulation } from "../../scripts/faults/simulation.js";
import { Tally } from "../../scripts/faults/tally.js";
import { wholeWriter } from "../../scripts/faults/wholeWriter.js";
import { ours } from "../../scripts/faults/writers.js";
import { Random } from "../../scripts/fuzz/random.js";
import * as torch from "../../lib/torch/index.js";

const tensorsBefore = torch.memory().tensors;
const contents = new CheckpointContents();
afterAll(() => expect(torch.memory().tensors).toBe(tensorsBefore));

describe("saving, with a fault at every step", () => {
  test("never leaves a pointer that does not load, and loses no checkpoint", async () => {
    const tally = new Tally();
    for (const scenario of SCENARIOS) await new Simulation(scenario, contents, tally, ours, { every: 12, secondRunEvery: 50 }).run();
    await new Simulation(SCENARIOS[2]!, contents, tally, wholeWriter(), { every: 20, secondRunEvery: 50 }).run();
    expect(tally.violations).toEqual([]);
    expect(tally.total).toBeGreaterThan(4000);
    expect(Object.keys(tally.faults).sort()).toEqual([
      "EACCES", "EDQUOT", "EIO", "EIO after the effect", "EIO from then on", "ENOSPC", "ENOSPC until space is freed", "kill",
      "kill of the next run", "short write", "short write, then ENOSPC",
    ]);
  });

  test("catches every writer that has a mistake", async () => {
    expect(await catchMistakes(contents)).toEqual(Object.fromEntries(Object.keys(MISTAKES).map((name) => [name, true])));
  });
});

test("killed processes leave a folder that loads, and the next ones go on in it", async () => {
  const tally = new Tally();
  const facts = await killProcesses(12, contents, tally);
  expect(tally.violations).toEqual([]);
  expect(tally.faults).toEqual({ SIGKILL: 12 });
  expect(facts.kills).toBe(12);
  expect(facts.saves).toBeGreaterThan(0);
});

// Linux lets root, and often others, mount a file system in memory.
(whyNoSmallDisk() === null ? test : test.skip)("a disk that is full, of bytes or of files, keeps what was saved", () => {
  const tally = new Tally();
  const reports = fillDisks(9, tally);
  expect(tally.violations).toEqual([]);
  expect(tally.faults).toEqual({ "ENOSPC of a real disk": 18 });
  // The one that runs out of files stops pointers as well.
  expect(reports[1]!.byStage.point).toBeGreaterThan(0);
});

describe("the simulated disk", () => {
  const text = (listing: Listing): Record<string, string> => Object.fromEntries([...listing].map(([name, entry]) =>
    [name, entry.kind === "file" ? Buffer.from(entry.bytes).toString("latin1") : entry.kind === "link" ? `-> ${entry.target}` : "folder"]));
  const after = async (work: (disk: SimulatedDisk) => Promise<void>): Promise<Record<string, string>[]> => {
    const disk = new SimulatedDisk(new Map([["old", { kind: "file", bytes: Buffer.from("old") }]]));
    await work(disk);
    return [...crashStates(disk.image(), new Random(1, 0))].map(text);
  };

  test("may lose a name that no fsync of the folder made safe", async () => {
    expect(await after((disk) => disk.rename("/f/old", "/f/new"))).toEqual([{ new: "old" }, { old: "old" }, { old: "old", new: "old" }]);
    expect(await after((disk) => disk.remove("/f/old"))).toEqual([{}, { old: "old" }]);
    expect(await after((disk) => disk.symlink("old", "/f/last"))).toEqual([{ old: "old", last: "-> old" }, { old: "old" }]);
  });

  test("keeps everything once data and folder were fsynced", async () => {
    expect(await after(async (disk) => {
      const file = await disk.create("/f/new");
      await file.write(Buffer.from("content"));
      await file.sync();
      await disk.rename("/f/new", "/f/old");
      await disk.syncFolder("/f");
    })).toEqual([{ old: "content" }]);
  });

  test("may lose, cut and blank bytes that were not fsynced, and cannot mend a failed fsync by another", async () => {
    const write = async (disk: SimulatedDisk): Promise<void> => {
      const file = await disk.create("/f/new");
      await file.write(Buffer.from("content"));
      await disk.syncFolder("/f");
      disk.before = (operation) => (operation === "sync" ? { error: new Error("injected") } : undefined);
      await file.sync().catch(() => undefined);
      disk.before = () => undefined;
      await file.sync();
    };
    const states = (await after(write)).map((state) => state.new!);
    expect(states.slice(0, 2)).toEqual(["content", ""]);
    expect(states).toContain("\0\0\0\0\0\0\0");
    expect(states.some((state) => state !== "" && state !== "content" && "content".startsWith(state))).toBe(true);
  });

  test("reorders changes of different names, not those of one", async () => {
    const states = await after(async (disk) => {
      await (await disk.create("/f/new")).close();
      await disk.remove("/f/old");
    });
    expect(states.map((state) => Object.keys(state).sort().join())).toEqual(["new", "old", "new,old", ""]);
  });
});
