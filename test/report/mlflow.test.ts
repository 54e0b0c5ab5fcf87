/** What reaches an MLflow server, and what becomes of a run whose server fails; MLflow's own server needs MOCO_TEST_MLFLOW. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "@jest/globals";
import { mlflowVariables } from "../../lib/config.js";
import { Loggers, MlflowLogger, type EndEntry, type LogEntry, type MlflowLoggerOptions } from "../../lib/report/index.js";
import { FakeMlflow, type FakeRun } from "../support/fakeMlflow.js";
import { MlflowServer } from "../support/mlflowServer.js";
import { testMlflow } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { endEntry, evaluationEntry, runEntry, stepEntry } from "./logEntries.js";

const root = temporaryFolder("mlflow");
const newFolder = (): string => mkdtempSync(join(root, "run-"));
const quick = { flushSeconds: 0.02, retrySeconds: 0.02, requestSeconds: 5, closeSeconds: 5 } satisfies MlflowLoggerOptions;

class Run {
  readonly warnings: string[] = [];
  readonly loggers: Loggers;

  constructor(uri: string, folder: string | null = null, options: MlflowLoggerOptions = {}) {
    this.loggers = new Loggers([new MlflowLogger({ uri, ...quick, ...options })], { folder, warn: (message) => this.warnings.push(message) });
  }

  async log(entries: readonly LogEntry[], milliseconds = 0): Promise<void> {
    for (const entry of entries) {
      this.loggers.log(entry);
      if (milliseconds > 0) await delay(milliseconds);
    }
  }

  async end(reason?: EndEntry["reason"]): Promise<string[]> {
    this.loggers.log(endEntry(reason));
    await this.loggers.close();
    return this.warnings;
  }
}

const steps = (first: number, last: number): LogEntry[] => Array.from({ length: last - first }, (_, i) => stepEntry(first + i));
const losses = ({ metrics }: FakeRun): number[] => metrics.filter(({ key }) => key === "train/loss").map(({ step }) => step);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe("a server that answers", () => {
  test("gets experiment, run, options and numbers, within its limits", async () => {
    await using server = await FakeMlflow.start();
    const folder = newFolder();
    const options = Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`option ${i}?`, "x".repeat(10 * i)]));
    const run = new Run(`${server.uri}/`, folder, { experiment: "mine", runName: "first" });
    await run.log([runEntry({ options }), ...steps(0, 300), evaluationEntry(0), stepEntry(300, { loss: Infinity, gradientNorm: null })]);
    expect(await run.end()).toEqual([]);
    expect([...server.experiments]).toEqual([["mine", "0"]]);
    expect(server.run).toMatchObject({ experiment: "0", name: "first", status: "FINISHED", tags: { device: "cpu", "mlflow.source.name": "moco-v3" } });
    expect(server.run.endTime).toBeGreaterThan(0);
    expect(server.run.params.size).toBe(253); // three versions
    expect(server.run.params.get("option 249_")).toBe("x".repeat(500));
    expect(losses(server.run)).toEqual(upTo(300));
    expect(server.run.metrics.find(({ key }) => key === "val/acc1")).toMatchObject({ value: 40, step: 2 });
    const batches = server.requests.filter(({ method }) => method === "runs/log-batch").map(({ body }) => [body.params?.length ?? 0, body.metrics?.length ?? 0]);
    expect(batches.filter(([params]) => params! > 0).map(([params]) => params)).toEqual([100, 100, 53]);
    expect(Math.max(...batches.map(([, metrics]) => metrics!))).toBe(1000);
    expect(JSON.parse(readFileSync(join(folder, "mlflow.json"), "utf8"))).toEqual({ uri: server.uri, experiment: "mine", runId: "run0" });
  });

  test("goes on with the same run when that is resumed, and keeps its options", async () => {
    await using server = await FakeMlflow.start();
    const folder = newFolder();
    const first = new Run(server.uri, folder);
    await first.log([runEntry({ options: { epochs: 2 } }), ...steps(0, 4)]);
    expect(await first.end("interrupted")).toEqual([]);
    expect(server.run.status).toBe("KILLED");
    const statuses: string[] = [];
    server.mischief = () => {
      statuses.push(server.run.status);
      return null;
    };
    const second = new Run(server.uri, folder);
    await second.log([runEntry({ firstStep: 4, resumedFrom: "x", options: { epochs: 9, more: 1 } }), ...steps(4, 6)]);
    expect(await second.end()).toEqual([]);
    expect(statuses).toContain("RUNNING");
    expect(server.run.status).toBe("FINISHED");
    expect([server.run.params.get("epochs"), server.run.params.get("more")]).toEqual(["2", "1"]);
    expect(losses(server.run)).toEqual(upTo(6));
    expect(server.requests.filter(({ method }) => method === "experiments/create")).toHaveLength(1);
  });

  test("gets a new run where the noted one is gone, is another server's, or its note is damaged", async () => {
    await using server = await FakeMlflow.start();
    const folder = newFolder();
    const once = async (): Promise<void> => {
      const run = new Run(server.uri, folder);
      await run.log([runEntry()]);
      expect(await run.end("failed")).toEqual([]);
    };
    await once();
    server.run.deleted = true;
    await once();
    writeFileSync(join(folder, "mlflow.json"), '{"uri":');
    await once();
    writeFileSync(join(folder, "mlflow.json"), '{"uri":"http://elsewhere","runId":"run0"}');
    await once();
    writeFileSync(join(folder, "mlflow.json"), JSON.stringify({ uri: server.uri, runId: "never" }));
    await once();
    expect([...server.runs.values()].map(({ status }) => status)).toEqual(Array<string>(5).fill("FAILED"));
  });

  test("is told who asks", async () => {
    await using server = await FakeMlflow.start();
    const basic = `Basic ${Buffer.from("ada:p:w").toString("base64")}`;
    for (const [uri, options] of [
      [server.uri, { token: "t0ken" }], [server.uri, { username: "ada", password: "p:w" }], [server.uri.replace("//", "//ada:p%3Aw@"), {}], [server.uri, {}],
    ] as [string, MlflowLoggerOptions][]) {
      const run = new Run(uri, null, options);
      await run.log([runEntry()]);
      await run.end();
    }
    expect([...new Set(server.requests.map(({ authorization }) => authorization))]).toEqual(["Bearer t0ken", basic, undefined]);
    expect(mlflowVariables({ MLFLOW_TRACKING_URI: " http://x ", MLFLOW_TRACKING_TOKEN: "t", MLFLOW_EXPERIMENT_NAME: "" }))
      .toEqual({ uri: "http://x", experiment: null, token: "t", username: null, password: null });
  });
});

describe("a server that fails", () => {
  test("one that is not there is warned of once, and the end does not wait long", async () => {
    await using server = await FakeMlflow.start();
    await server.stop();
    const run = new Run(server.uri);
    await run.log([runEntry(), ...steps(0, 10)], 20);
    const began = performance.now();
    const warnings = await run.end();
    expect(performance.now() - began).toBeLessThan(2000);
    expect(warnings).toEqual([
      `MLflow at ${server.uri} cannot be reached: ECONNREFUSED; the training goes on, and what it logs waits and is sent later`,
      `MLflow at ${server.uri} did not take the end of this run and 80 of its values; the run's log has them`,
    ]);
  });

  test("one that dies in the middle and comes back gets everything, once", async () => {
    await using server = await FakeMlflow.start();
    const run = new Run(server.uri);
    await run.log([runEntry(), ...steps(0, 5)], 10);
    await server.stop();
    await run.log(steps(5, 10), 20);
    await server.listen();
    await run.log(steps(10, 15), 20);
    expect(await run.end()).toEqual([expect.stringMatching(/cannot be reached/)]);
    expect(losses(server.run)).toEqual(upTo(15));
    expect(server.run.status).toBe("FINISHED");
  });

  test("one that answers 500, 503 or 429 for a while is asked again", async () => {
    await using server = await FakeMlflow.start();
    server.mischief = (_, count) => [500, 503, 429][count % 4] ?? null;
    const run = new Run(server.uri);
    await run.log([runEntry(), ...steps(0, 10)], 50);
    server.mischief = () => null;
    expect(await run.end()).toEqual([expect.stringMatching(/cannot be reached: it answers with status \d{3};/)]);
    expect(losses(server.run)).toEqual(upTo(10));
  });

  test("one that never answers holds the end up no longer than is allowed", async () => {
    await using server = await FakeMlflow.start();
    server.mischief = () => "hang";
    const run = new Run(server.uri, null, { requestSeconds: 30, closeSeconds: 0.3 });
    await run.log([runEntry(), ...steps(0, 3)]);
    const began = performance.now();
    expect(await run.end()).toEqual([expect.stringMatching(/did not take the end of this run and 24 of its values/)]);
    expect(performance.now() - began).toBeLessThan(2000);
    const slow = new Run(server.uri, null, { requestSeconds: 0.05 });
    await slow.log([runEntry(), ...steps(0, 10)], 20);
    expect((await slow.end())[0]).toMatch(/no answer came within 0.05 s/);
  });

  test("values that wait are not kept without end", async () => {
    await using server = await FakeMlflow.start();
    server.mischief = () => 500;
    const run = new Run(server.uri, null, { mostWaiting: 80 });
    await run.log([runEntry(), ...steps(0, 50)], 1);
    server.mischief = () => null;
    await delay(300);
    await run.log([stepEntry(50)]);
    expect(await run.end()).toContainEqual(expect.stringMatching(/lacks 320 values of this run: it did not answer for too long/));
    expect(losses(server.run)).toEqual([40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50]);
  });

  test.each([
    ["the address of something else", () => "<html>not here</html>", /does not answer as an MLflow server does \(status 404\); give the server's own address/],
    ["a page where an answer should be", (method: string) => (method.startsWith("experiments") ? 200 : null), /does not answer as an MLflow server does/],
    ["other credentials are wanted", () => 401, /status 401\); set MLFLOW_TRACKING_TOKEN/],
  ])("%s switches the logger off", async (_, mischief, message) => {
    await using server = await FakeMlflow.start();
    server.mischief = mischief;
    const run = new Run(server.uri);
    await run.log([runEntry(), ...steps(0, 5)], 20);
    const { length } = server.requests;
    expect(await run.end()).toEqual([expect.stringMatching(message)]);
    expect(run.warnings[0]).toMatch(/^MLflow fails and is switched off; the training goes on without it: /);
    expect(server.requests).toHaveLength(length);
  });

  test("what it refuses only at the end is told too", async () => {
    await using server = await FakeMlflow.start();
    const run = new Run(server.uri);
    await run.log([runEntry(), ...steps(0, 2)], 30);
    server.mischief = () => 403;
    await run.log(steps(2, 3));
    expect(await run.end()).toEqual([expect.stringMatching(/status 403/)]);
  });

  test("what is no address at all is an error at once", () => {
    for (const uri of ["", "localhost:5000", "file:///tmp/mlruns", "databricks"]) {
      expect(() => new MlflowLogger({ uri })).toThrow(/is not the address of an MLflow server; give one such as http:/);
    }
    expect(() => new MlflowLogger()).toThrow(/set MLFLOW_TRACKING_URI/);
  });
});

(testMlflow === null ? describe.skip : describe)("MLflow's own server", () => {
  test("gets a run that is killed with its server, and goes on", async () => {
    await using server = await MlflowServer.start(newFolder());
    const folder = newFolder();
    const first = new Run(server.uri, folder, { experiment: "photos" });
    await first.log([runEntry({ options: { arch: "vit_tiny", text: "ü|".repeat(600) } }), ...steps(0, 5)], 20);
    for (let i = 0; i < 100 && !(await hasLoss(4)); i++) await delay(50);
    await server.kill();
    await first.log(steps(5, 8), 20);
    await server.start();
    // The client has connections that the former server closed.
    expect(await first.end("interrupted")).toEqual(first.warnings.length === 0 ? [] : [expect.stringMatching(/cannot be reached/)]);
    expect(await found()).toMatchObject({ status: "KILLED", losses: upTo(8) });

    const second = new Run(server.uri, folder, { experiment: "photos" });
    await second.log([runEntry({ firstStep: 8, resumedFrom: "x", options: { arch: "another" } }), ...steps(8, 600), evaluationEntry(199)]);
    expect(await second.end()).toEqual([]);
    const { status, name, params, losses: all, acc1 } = await found();
    expect({ status, name, acc1 }).toEqual({ status: "FINISHED", name: expect.stringMatching(/^run-/), acc1: 40 });
    expect(all).toEqual(upTo(600));
    expect(params).toMatchObject({ arch: "vit_tiny", text: "ü|".repeat(250) });

    async function found() {
      const { runId } = JSON.parse(readFileSync(join(folder, "mlflow.json"), "utf8")) as { runId: string };
      const { run } = await server.get<{ run: { info: { status: string; run_name: string }; data: Record<"params" | "metrics", { key: string; value: string | number }[]> } }>(`runs/get?run_id=${runId}`);
      const { metrics } = await server.get<{ metrics?: { step: number }[] }>(`metrics/get-history?run_id=${runId}&metric_key=train/loss&max_results=25000`);
      return {
        status: run.info.status, name: run.info.run_name, losses: (metrics ?? []).map(({ step }) => step).sort((a, b) => a - b),
        params: Object.fromEntries(run.data.params.map(({ key, value }) => [key, value])), acc1: run.data.metrics.find(({ key }) => key === "val/acc1")?.value,
      };
    }

    async function hasLoss(step: number): Promise<boolean> {
      return await found().then(({ losses }) => losses.includes(step), () => false);
    }
  }, 240_000);
});
