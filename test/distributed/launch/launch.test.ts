import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { exitOf, isAlive, launchScript, startLauncher, until } from "./script.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "moco-launch-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Each process writes a file that is called by its start and rank. */
const writes = (): string => `
  const { writeFileSync } = require("node:fs");
  const { RANK, TORCHELASTIC_RESTART_COUNT: START } = process.env;
  const write = (name, value) => writeFileSync(${JSON.stringify(folder)} + "/" + name, JSON.stringify(value));
  write(START + "-" + RANK, { pid: process.pid, words: process.argv.slice(1), ...process.env });
`;
const read = (name: string): Record<string, string> & { pid: number; words: string[] } =>
  JSON.parse(readFileSync(join(folder, name), "utf8")) as never;
const written = (): string[] => readdirSync(folder).sort();

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("moco launch on one machine", () => {
  test("tells each process its place with torchrun's variables", async () => {
    const { code } = await launchScript(writes(), { processes: 3, startWords: (start) => [`start-${start}`] });
    expect(code).toBe(0);
    expect(written()).toEqual(["0-0", "0-1", "0-2"]);
    expect(read("0-2")).toMatchObject({
      RANK: "2", WORLD_SIZE: "3", LOCAL_RANK: "2", LOCAL_WORLD_SIZE: "3", GROUP_RANK: "0", MASTER_ADDR: "127.0.0.1", MASTER_PORT: "1",
      TORCHELASTIC_USE_AGENT_STORE: "True", words: ["start-0"],
    });
    expect(read("0-0").TORCHELASTIC_RUN_ID).toBe(read("0-2").TORCHELASTIC_RUN_ID);
  });

  test("ends all when one fails, with its exit code, and says who it was", async () => {
    const program = `${writes()} if (RANK === "1") setTimeout(() => process.exit(7), 300); else setInterval(() => {}, 1000);`;
    const { code, log, store } = await launchScript(program, { processes: 3, byItselfMs: 100 });
    expect(code).toBe(7);
    expect(log).toEqual(["rank 1 failed with exit code 7"]);
    expect(store.accused).toEqual([{ generation: `${read("0-0").TORCHELASTIC_RUN_ID}/0`, rank: 1, what: "rank 1 failed with exit code 7" }]);
    expect(written().map((name) => isAlive(read(name).pid))).toEqual([false, false, false]);
  });

  test("kills what does not end when asked to, with all that it has started", async () => {
    const program = `${writes()}
      process.on("SIGTERM", () => {});
      const child = require("node:child_process").spawn("sleep", ["1000"]);
      write("child-" + RANK, { pid: child.pid });
      if (RANK === "0") setTimeout(() => process.kill(process.pid, "SIGKILL"), 500); else setInterval(() => {}, 1000);`;
    const { code, log } = await launchScript(program, { processes: 2, byItselfMs: 100, graceMs: 300 });
    expect(code).toBe(137);
    expect(log).toEqual(["rank 0 was ended by SIGKILL"]);
    await until(() => !written().some((name) => isAlive(read(name).pid)));
  });

  test("starts all again as often as allowed, and gives up with the first failure's code", async () => {
    const program = `${writes()} if (RANK === "1") process.exit(3);`;
    const { code, log } = await launchScript(program, { processes: 2, maxRestarts: 2, startWords: (start) => [`start-${start}`] });
    expect(code).toBe(3);
    expect(written()).toEqual(["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]);
    expect(read("2-0").words).toEqual(["start-2"]);
    expect(log).toEqual([
      "rank 1 failed with exit code 3; all begin again from the last step saved (restart 1 of 2)",
      "rank 1 failed with exit code 3; all begin again from the last step saved (restart 2 of 2)",
      "rank 1 failed with exit code 3 (after 2 restarts, as --max-restarts allows)",
    ]);
  });

  test("does not blame a process that only noticed another one's failure", async () => {
    const program = `${writes()} setTimeout(() => process.exit(RANK === "0" ? 75 : 9), RANK === "0" ? 200 : 400);`;
    const { code, log } = await launchScript(program, { processes: 2 });
    expect({ code, log }).toEqual({ code: 9, log: ["rank 1 failed with exit code 9"] });
  });

  test("passes SIGTERM on, waits for the processes, and starts nothing again", async () => {
    const program = `${writes()} const timer = setInterval(() => {}, 1000);
      process.on("SIGTERM", () => setTimeout(() => { write("saved-" + RANK, {}); clearInterval(timer); }, 300));
      write("ready-" + RANK, {});`;
    const launcher = startLauncher(program, { processes: 2, maxRestarts: 5 });
    await until(() => written().filter((name) => name.startsWith("ready")).length === 2);
    launcher.kill("SIGTERM");
    expect(await exitOf(launcher)).toBe(0);
    expect(written()).toEqual(["0-0", "0-1", "ready-0", "ready-1", "saved-0", "saved-1"]);
  });

  test("leaves no process behind when it is killed", async () => {
    const lifeline = fileURLToPath(new URL("../../../lib/distributed/launch/lifeline.js", import.meta.url));
    const program = `${writes()} import(${JSON.stringify(lifeline)}).then(({ holdLifeline }) => {
      holdLifeline();
      const child = require("node:child_process").spawn("sleep", ["1000"]);
      write("child-" + RANK, { pid: child.pid });
    });`;
    const launcher = startLauncher(program, { processes: 2, maxRestarts: 5 });
    await until(() => written().length === 4);
    launcher.kill("SIGKILL");
    await until(() => !written().some((name) => isAlive(read(name).pid)));
  });
});

describe("moco launch on several machines", () => {
  test("numbers the ranks over all, and a failure on one starts all again", async () => {
    const program = `${writes()} if (START === "0") { if (RANK === "2") process.exit(4); setInterval(() => {}, 1000); }`;
    const shared = { nodes: 2, masterAddress: "127.0.0.1", masterPort: await freePort(), maxRestarts: 1, byItselfMs: 100, silenceMs: 3000 };
    // The second one is there first, and waits.
    const second = launchScript(program, { ...shared, processes: 1, node: 1 });
    const first = launchScript(program, { ...shared, processes: 2, node: 0 });
    expect([(await first).code, (await second).code]).toEqual([0, 0]);
    expect(written()).toEqual(["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]);
    expect(read("1-2")).toMatchObject({ WORLD_SIZE: "3", LOCAL_RANK: "0", GROUP_RANK: "1", LOCAL_WORLD_SIZE: "1" });
    expect((await first).log.slice(-1)).toEqual(["rank 2 failed with exit code 4; all begin again from the last step saved (restart 1 of 1)"]);
  });

  test("does not wait for a machine for ever", async () => {
    const { code, log } = await launchScript(writes(), {
      processes: 1, nodes: 2, masterAddress: "127.0.0.1", masterPort: await freePort(), gatherMs: 500,
    });
    expect(code).toBe(1);
    expect(log.at(-1)).toBe("machine 1 did not come within 1 s; start moco launch there, with its --node-rank");
    const { code: alone, log: told } = await launchScript(writes(), {
      processes: 1, nodes: 2, node: 1, masterAddress: "127.0.0.1", masterPort: await freePort(), gatherMs: 500,
    });
    expect(alone).toBe(1);
    expect(told).toEqual([expect.stringMatching(/^machine 0 cannot be reached at 127\.0\.0\.1:\d+ \(.*ECONNREFUSED.*\); start moco launch/)]);
    expect(written()).toEqual([]);
  });
});
