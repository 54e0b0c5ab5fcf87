import { describe, expect, test } from "@jest/globals";
import { launchVariables, type LaunchVariables } from "../../lib/config.js";
import { readDistUrl, UNUSED_URL } from "../../lib/distributed/distUrl.js";
import { slurmPort } from "../../lib/distributed/launcherSettings.js";
import { PlacementError, type Placement } from "../../lib/distributed/placement.js";
import { deviceOfMember, readPlacement, type PlacementFlags, type PlacementFound } from "../../lib/distributed/readPlacement.js";
import { firstNode, tasksOfNode } from "../../lib/distributed/slurmNodes.js";

const none: PlacementFlags = { worldSize: -1, rank: -1, distUrl: UNUSED_URL, distBackend: "nccl" };
const cpu = { gpus: 0, device: null };

function read(flags: Partial<PlacementFlags>, variables: LaunchVariables = {}, machine: { gpus: number; device: string | null } = cpu): PlacementFound {
  return readPlacement({ ...none, ...flags }, variables, machine);
}

function member(flags: Partial<PlacementFlags>, variables: LaunchVariables = {}, machine: { gpus: number; device: string | null } = cpu): Placement {
  const found = read(flags, variables, machine);
  if (found.kind !== "member") throw new Error(`found ${JSON.stringify(found)}`);
  return found.placement;
}

const torchrun: LaunchVariables = {
  RANK: "5", WORLD_SIZE: "8", LOCAL_RANK: "1", LOCAL_WORLD_SIZE: "4", GROUP_RANK: "1", MASTER_ADDR: "10.0.0.1", MASTER_PORT: "29500",
};
const slurm: LaunchVariables = {
  SLURM_PROCID: "5", SLURM_NTASKS: "8", SLURM_STEP_NUM_TASKS: "8", SLURM_LOCALID: "1", SLURM_NODEID: "1", SLURM_JOB_ID: "4711", SLURM_STEP_ID: "0",
  SLURM_JOB_NODELIST: "gpu[07-09,12]", SLURM_STEP_NODELIST: "gpu[08-09]", SLURM_STEP_TASKS_PER_NODE: "4(x2)",
};

describe("without several processes", () => {
  test.each<[string, Partial<PlacementFlags>, LaunchVariables]>([
    ["nothing is said", {}, {}],
    ["upstream's single machine, with no or one GPU", { worldSize: 1, rank: 0, distUrl: "tcp://localhost:10001", multiprocessingDistributed: true }, {}],
    ["an address alone", { distUrl: "tcp://localhost:10001" }, {}],
    ["a launcher of one process", {}, { RANK: "0", WORLD_SIZE: "1", LOCAL_RANK: "0", MASTER_ADDR: "localhost", MASTER_PORT: "1" }],
    ["Slurm's one task", {}, { ...slurm, SLURM_STEP_NUM_TASKS: "1", SLURM_PROCID: "0" }],
    ["a flag for one process beside variables for more", { worldSize: 1 }, { RANK: "1", WORLD_SIZE: "2" }],
  ])("%s", (_, flags, variables) => {
    expect(read(flags, variables)).toEqual({ kind: "alone", note: null });
  });

  test("Slurm's batch script is told of srun", () => {
    const { SLURM_STEP_ID: _, ...batch } = slurm;
    const found = read({}, batch);
    expect(found.kind === "alone" && found.note).toMatch(/8 tasks.*not started by srun.*trains alone/);
  });
});

describe("upstream's flags", () => {
  const two = { worldSize: 2, rank: 1, distUrl: "tcp://10.0.0.1:10001" };

  test("count machines of one process", () => {
    const expected = {
      rank: 1, worldSize: 2, localRank: 0, localWorldSize: 1, nodeRank: 1, masterAddress: "10.0.0.1", masterPort: 10001, backend: "gloo",
      externalStore: false, generation: "run/0",
    };
    expect(member(two)).toEqual(expected);
    expect(member({ ...two, multiprocessingDistributed: true })).toEqual(expected);
    expect(member({ ...two, multiprocessingDistributed: true }, {}, { gpus: 1, device: null })).toEqual({ ...expected, backend: "nccl" });
    expect(member({ ...two, multiprocessingDistributed: true }, {}, { gpus: 4, device: "cpu" })).toEqual(expected);
  });

  test("count processes of one machine where they meet on loopback", () => {
    expect(member({ ...two, distUrl: "tcp://127.0.0.1:10001" })).toMatchObject({ localRank: 1, localWorldSize: 2, nodeRank: 0 });
    expect(member({ ...two, distUrl: "tcp://[::1]:10001" })).toMatchObject({ masterAddress: "::1", localRank: 1 });
  });

  test("start a process for each GPU", () => {
    const machine = { gpus: 4, device: null };
    expect(read({ ...two, multiprocessingDistributed: true }, {}, machine)).toEqual({
      kind: "spawn", spawn: { processes: 4, machines: 2, machine: 1, masterAddress: "10.0.0.1", masterPort: 10001 },
    });
    expect(read({ multiprocessingDistributed: true }, {}, machine)).toEqual({
      kind: "spawn", spawn: { processes: 4, machines: 1, machine: 0, masterAddress: "127.0.0.1", masterPort: 0 },
    });
  });

  test("are those of the process that has started this one, not its own, where it was started for a GPU", () => {
    const flags = { ...two, multiprocessingDistributed: true };
    const variables = { ...torchrun, RANK: "7", LOCAL_RANK: "3", TORCHELASTIC_USE_AGENT_STORE: "True", MOCO_SPAWNED: "1" };
    const machine = { gpus: 4, device: null };
    expect(member(flags, variables, machine)).toMatchObject({
      rank: 7, worldSize: 8, localRank: 3, localWorldSize: 4, masterAddress: "10.0.0.1", masterPort: 29500, backend: "nccl", externalStore: true,
    });
    expect(member({ ...flags, distBackend: "gloo" }, variables, machine).backend).toBe("gloo");
  });

  test("choose the transport", () => {
    const machine = { gpus: 2, device: null };
    expect(member(two, {}, machine).backend).toBe("nccl");
    expect(member({ ...two, distBackend: "gloo" }, {}, machine).backend).toBe("gloo");
    expect(member(two, {}, { gpus: 2, device: "cpu" }).backend).toBe("gloo");
    expect(member(two, {}, { gpus: 2, device: "cuda:1" }).backend).toBe("nccl");
  });

  test("take the rest from the environment, which they outvote", () => {
    const variables = { WORLD_SIZE: "3", RANK: "2", MASTER_ADDR: "10.0.0.9", MASTER_PORT: "29500" };
    expect(member({ distUrl: "env://" }, variables)).toMatchObject({ rank: 2, worldSize: 3, masterAddress: "10.0.0.9", masterPort: 29500 });
    expect(member({ ...two, distUrl: "env://" }, variables)).toMatchObject({ rank: 1, worldSize: 2, masterAddress: "10.0.0.9" });
    expect(member(two, variables)).toMatchObject({ rank: 1, worldSize: 2, masterAddress: "10.0.0.1", masterPort: 10001 });
    const agent = { ...variables, TORCHELASTIC_USE_AGENT_STORE: "True" };
    expect(member({ distUrl: "env://" }, agent).externalStore).toBe(true);
    expect(member(two, agent).externalStore).toBe(false);
  });
});

test("torchrun's variables", () => {
  const expected = {
    rank: 5, worldSize: 8, localRank: 1, localWorldSize: 4, nodeRank: 1, masterAddress: "10.0.0.1", masterPort: 29500, backend: "gloo",
    externalStore: false, generation: "run/0",
  };
  expect(member({}, torchrun)).toEqual(expected);
  const agent = { TORCHELASTIC_USE_AGENT_STORE: "True", TORCHELASTIC_RESTART_COUNT: "2", TORCHELASTIC_RUN_ID: "night" };
  expect(member({}, { ...torchrun, ...agent })).toEqual({ ...expected, externalStore: true, generation: "night/2" });
  // It goes before Slurm's, in whose tasks torchrun may run.
  expect(member({}, { ...slurm, ...torchrun })).toEqual(expected);
  expect(member({ distBackend: "nccl" }, torchrun, { gpus: 4, device: null }).backend).toBe("nccl");
});

test("Slurm's variables", () => {
  const expected = {
    rank: 5, worldSize: 8, localRank: 1, localWorldSize: 4, nodeRank: 1, masterAddress: "gpu08", masterPort: slurmPort(4711, 0), backend: "gloo",
    externalStore: false, generation: "slurm-4711.0/0",
  };
  expect(member({}, slurm)).toEqual(expected);
  expect(member({}, { ...slurm, SLURM_RESTART_COUNT: "3" }).generation).toBe("slurm-4711.0/3");
  const { SLURM_STEP_NODELIST: _, SLURM_STEP_NUM_TASKS: __, ...older } = slurm;
  expect(member({}, older)).toMatchObject({ masterAddress: "gpu07", worldSize: 8 });
  expect(member({}, { ...slurm, MASTER_ADDR: "head", MASTER_PORT: "12345" })).toMatchObject({ masterAddress: "head", masterPort: 12345 });
});

test("Slurm's ports are free ones of a job's own", () => {
  const ports = Array.from({ length: 200 }, (_, i) => slurmPort(1_000_000 + i, 0));
  expect(new Set(ports).size).toBe(ports.length);
  expect(Math.min(...ports)).toBeGreaterThanOrEqual(20_000);
  expect(Math.max(...ports)).toBeLessThan(30_000);
  expect(slurmPort(1, 0)).not.toBe(slurmPort(1, 1));
});

test.each([
  ["node1", "node1"], ["node1,node2", "node1"], ["node[03-05,9],login1", "node03"], ["a[7],b[1-2]", "a7"], ["rack[1-2]node[01-16]", "rack1node01"],
  ["gpu[3,1-2].cluster.example", "gpu3.cluster.example"],
])("the first of the hosts %s is %s", (list, host) => {
  expect(firstNode(list, "SLURM_JOB_NODELIST")).toBe(host);
});

test.each(["", "node[", "node[1-", "[a]", "node]1", "a b"])("the hosts %j are refused", (list) => {
  expect(() => firstNode(list, "SLURM_JOB_NODELIST")).toThrow(/SLURM_JOB_NODELIST is ".*set MASTER_ADDR/);
});

test("tasks of each node", () => {
  expect([0, 1, 2, 3].map((node) => tasksOfNode("4(x2),3,1", node, "V"))).toEqual([4, 4, 3, 1]);
  expect(() => tasksOfNode("4(x2)", 2, "SLURM_TASKS_PER_NODE")).toThrow(/SLURM_TASKS_PER_NODE is "4\(x2\)".*node 2/);
  expect(() => tasksOfNode("many", 0, "V")).toThrow(PlacementError);
});

test("dist-url", () => {
  expect(readDistUrl("tcp://host.example:1")).toEqual({ host: "host.example", port: 1 });
  expect(readDistUrl("tcp://[fe80::1%eth0]:65535")).toEqual({ host: "fe80::1%eth0", port: 65535 });
  expect(readDistUrl("env://")).toBe("environment");
  expect(readDistUrl(UNUSED_URL)).toBe(null);
  for (const wrong of ["host:1", "tcp://host", "tcp://host:0", "tcp://host:65536", "file:///shared", "tcp://:1", "tcp://host:1?rank=0", "udp://h:1"]) {
    expect(() => readDistUrl(wrong)).toThrow(/--dist-url is ".*tcp:\/\/HOST:PORT/);
  }
});

describe("refused, with the remedy", () => {
  const url = "tcp://10.0.0.1:10001";
  test.each<[string, Partial<PlacementFlags>, LaunchVariables, RegExp]>([
    ["no machine", { worldSize: 0 }, {}, /--world-size is 0; give 1 or more/],
    ["a rank alone", { rank: 1 }, {}, /--rank is 1, but --world-size is not given/],
    ["no rank", { worldSize: 2, distUrl: url }, {}, /--world-size is 2, but neither --rank nor RANK/],
    ["a rank too high", { worldSize: 2, rank: 2, distUrl: url }, {}, /--rank is 2, but --world-size is 2: ranks count from 0 to 1/],
    ["a rank of one process", { worldSize: 1, rank: 1 }, {}, /--rank is 1, but --world-size is 1/],
    ["no address", { worldSize: 2, rank: 0 }, {}, /--world-size is 2, but --dist-url is not given; give tcp:\/\/HOST:PORT/],
    ["an empty environment", { distUrl: "env://" }, {}, /--dist-url is env:\/\/, but WORLD_SIZE is not set/],
    ["another transport", { distBackend: "mpi" }, {}, /--dist-backend is "mpi"; give nccl .* or gloo/],
    ["RANK alone", {}, { RANK: "0" }, /RANK is 0, but WORLD_SIZE is not given/],
    ["WORLD_SIZE alone", {}, { WORLD_SIZE: "2" }, /WORLD_SIZE is 2, but neither --rank nor RANK/],
    ["no MASTER_ADDR", {}, { ...torchrun, MASTER_ADDR: undefined }, /WORLD_SIZE is 8, but MASTER_ADDR is not given; set it to the host of rank 0/],
    ["no MASTER_PORT", {}, { ...torchrun, MASTER_PORT: undefined }, /MASTER_ADDR is 10.0.0.1, but MASTER_PORT is not given; set it to a free port/],
    ["a port that is none", {}, { ...torchrun, MASTER_PORT: "99999" }, /MASTER_PORT is "99999"; set it to a whole number from 1 to 65535/],
    ["a number that is none", {}, { ...torchrun, WORLD_SIZE: "two" }, /WORLD_SIZE is "two"; set it to a whole number of at least 1/],
    ["a local rank too high", {}, { ...torchrun, LOCAL_RANK: "4" }, /LOCAL_RANK is 4, but LOCAL_WORLD_SIZE is 4/],
    ["more local ranks than ranks", {}, { ...torchrun, LOCAL_WORLD_SIZE: "9" }, /LOCAL_WORLD_SIZE is 9, but WORLD_SIZE is 8 in all/],
    ["two launchers", { multiprocessingDistributed: true }, torchrun, /--multiprocessing-distributed.*LOCAL_RANK is 1.*leave the flag out/],
    ["another size than the launcher's", { worldSize: 1 }, torchrun, /--world-size is 1, but WORLD_SIZE is 8.*leave --world-size out/],
    ["another rank than the launcher's", { rank: 0 }, torchrun, /--rank is 0, but RANK is 5.*leave --rank out/],
    ["a Slurm task without hosts", {}, { ...slurm, SLURM_JOB_NODELIST: undefined, SLURM_STEP_NODELIST: undefined }, /neither SLURM_JOB_NODELIST nor MASTER_ADDR/],
    ["a Slurm task without a job", {}, { ...slurm, SLURM_JOB_ID: undefined }, /MASTER_PORT is not given/],
  ])("%s", (_, flags, variables, message) => {
    expect(() => read(flags, variables)).toThrow(PlacementError);
    expect(() => read(flags, variables)).toThrow(message);
  });

  test("several machines with several GPUs and no meeting point", () => {
    const machine = { gpus: 2, device: null };
    expect(() => read({ multiprocessingDistributed: true, worldSize: 2, rank: 0 }, {}, machine)).toThrow(/--world-size is 2, but --dist-url is not given/);
    expect(() => read({ multiprocessingDistributed: true, worldSize: 2, distUrl: url }, {}, machine)).toThrow(/neither --rank nor RANK/);
  });
});

test("a member's device", () => {
  const placement = member({}, torchrun);
  expect(deviceOfMember(placement, 0)).toBe("cpu");
  expect(deviceOfMember(placement, 4)).toBe("cuda:1");
  // A launcher that shows each process one GPU only.
  expect(deviceOfMember(placement, 1)).toBe("cuda:0");
});

test("empty variables are none", () => {
  expect(launchVariables({ RANK: "", WORLD_SIZE: " 2 ", HOME: "/root" })).toEqual({ WORLD_SIZE: "2" });
});
