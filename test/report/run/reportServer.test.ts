import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { Figure } from "../../../lib/report/figure.js";
import { ReportServer, ReportServerError, type ServeOptions } from "../../../lib/report/run/serveRuns.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { EventStream } from "./eventStream.js";
import { hostile, runEntry, stepEntry, steps, writeLog } from "./sampleRun.js";

const folder = temporaryFolder("report-server");
let count = 0;
const newRun = (): string => join(folder, `run${count++}`);
const serve = (runs: string[], options: ServeOptions = {}): Promise<ReportServer> => ReportServer.start(runs, { port: 0, pollMs: 20, ...options });

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

/** Asks as given, to the letter: a client would tidy up a path. */
function ask(url: string, path: string, { method = "GET", headers = {} }: { method?: string; headers?: Record<string, string> } = {}): Promise<Answer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const asked = request({ host: hostname, port, path, method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, text }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

test("new steps are appended, a resumed run is sent anew, an end is told", async () => {
  const run = writeLog(newRun(), [runEntry(), ...steps(0, 15)]);
  await using server = await serve([run]);
  expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  using page = await EventStream.open(server.url);
  const first = await page.next();
  expect(first.runs[0]!.whole!.steps.x).toHaveLength(15);
  expect(first.charts!.map(({ id }) => id)).toContain("loss");
  expect(first.parts.status).toContain("no end yet");

  writeLog(run, steps(15, 18));
  const more = await page.next();
  expect(more.runs[0]).toMatchObject({ more: { total: 3, x: [16, 17, 18], y: { loss: [3.7, 3.68, 3.66] } } });
  expect(more.runs[0]!.whole).toBeUndefined();
  expect(more.charts).toBeUndefined();
  expect(Object.keys(more.parts)).not.toContain("options");

  // The run is started again, and goes on from step 10.
  writeLog(run, [runEntry({ firstStep: 10, resumedFrom: "checkpoint" }), stepEntry(10, { loss: 1 })]);
  let again = await page.next();
  while (again.runs[0]?.whole === undefined) again = await page.next();
  expect(again.runs[0].whole.steps.x.length).toBeLessThanOrEqual(11);
  writeLog(run, [stepEntry(11, { acc1: 5 })]);
  const fresh = await page.next();
  expect(fresh.runs[0]!.more!.x).toContain(12);
  expect(fresh.charts!.map(({ id }) => id)).toContain("train-accuracy"); // a figure that there was not before

  writeLog(run, [{ kind: "knn", epoch: 0, k: 20, acc1: 30, acc5: 60, gallery: 9, queries: 9, leaveOneOut: true, seconds: 1 }]);
  expect((await page.next()).runs[0]!.rest!.knn.y.acc1).toEqual([30]);
  writeLog(run, [{ kind: "end", reason: "finished", seconds: 3 }]);
  expect((await page.next()).parts.status).toContain("finished");
});

test("waits for a run that has not begun, and for half a line", async () => {
  const run = newRun();
  await using server = await serve([run]);
  expect((await ask(server.url, "/")).text).toContain("waiting");
  using page = await EventStream.open(server.url);
  expect((await page.next()).parts.status).toContain("waiting");
  writeLog(run, [runEntry()]);
  const begun = await page.next();
  expect(begun.parts.status).toContain("No step is done yet");
  expect(begun.runs[0]!.whole!.stepsPerEpoch).toBe(10);
  const line = JSON.stringify(stepEntry(0));
  writeFileSync(join(run, "log.jsonl"), line.slice(0, 40), { flag: "a" });
  await new Promise((resolve) => setTimeout(resolve, 60));
  writeFileSync(join(run, "log.jsonl"), `${line.slice(40)}\n`, { flag: "a" });
  let next = await page.next();
  while ((next.runs[0]?.more?.total ?? 0) === 0) next = await page.next();
  expect(next.runs[0]!.more!.x).toEqual([1]);
  // Another run in the same folder.
  rmSync(join(run, "log.jsonl"));
  writeLog(run, [runEntry({ started: "2026-01-02T03:05:00.000Z" }), ...steps(0, 2)]);
  while (next.runs[0]?.whole === undefined) next = await page.next();
  expect(next.runs[0].whole.steps.total).toBeLessThanOrEqual(2);
});

test("a page of a server that was started again gets all of it", async () => {
  const run = writeLog(newRun(), [runEntry(), ...steps(0, 5)]);
  const before = await serve([run]);
  const { port } = new URL(before.url);
  using old = await EventStream.open(before.url);
  await old.next();
  await before.close();
  await old.closed;
  writeLog(run, steps(5, 7));
  await using after = await serve([run], { port: Number(port) });
  using page = await EventStream.open(after.url);
  expect((await page.next()).runs[0]!.whole!.steps.x).toHaveLength(7);
});

test("what is sent one by one is thinned out once in a while", async () => {
  const run = writeLog(newRun(), [runEntry({ stepsPerEpoch: 1000 }), ...steps(0, 1000)]);
  await using server = await serve([run]);
  using page = await EventStream.open(server.url);
  await page.next();
  writeLog(run, steps(1000, 3000));
  let next = await page.next();
  while (next.runs[0]?.whole === undefined) next = await page.next();
  expect(next.runs[0].whole.steps.total).toBeGreaterThan(1200);
  expect(next.runs[0].whole.steps.x).toHaveLength(1200);
});

test("nothing but the report is served, with a strict policy, and to nobody who came by another name", async () => {
  const run = writeLog(newRun(), [runEntry({ device: hostile })]);
  await using server = await serve([run]);
  const page = await ask(server.url, "/?anything");
  expect(page.status).toBe(200);
  expect(page.headers["content-security-policy"]).toMatch(/^default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[^']+'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$/);
  expect(page.headers).toMatchObject({ "x-content-type-options": "nosniff", "cache-control": "no-store", "cross-origin-resource-policy": "same-origin" });
  expect(page.text).not.toContain("<img src=x");
  const paths = ["/log.jsonl", "/../log.jsonl", "/..%2flog.jsonl", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/events/../log.jsonl", "/\0"];
  for (const path of paths.slice(0, -1)) expect([path, (await ask(server.url, path)).status]).toEqual([path, 404]);
  expect((await ask(server.url, "/", { method: "POST" })).status).toBe(405);
  expect((await ask(server.url, "/", { method: "HEAD" }))).toMatchObject({ status: 200, text: "" });
  const { port } = new URL(server.url);
  for (const [host, status] of [["evil.example", 403], [`localhost:${port}`, 200], [`127.0.0.1:${port}`, 200]] as const) {
    expect([host, (await ask(server.url, "/", { headers: { host } })).status]).toEqual([host, status]);
  }
});

test("pictures are drawn when the page asks for them, one at a time, and a failure is told", async () => {
  const run = writeLog(newRun(), [runEntry()]);
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  let calls = 0;
  async function* pictures(of: string, onWarning: (message: string) => void): AsyncGenerator<Figure> {
    expect(of).toBe(run);
    if (++calls > 1) throw new Error("the checkpoint is gone");
    yield { id: "filters", title: "Filters", caption: "First layer.", body: "<svg></svg>" };
    await gate;
    onWarning("No attention: it is a ResNet.");
  }
  await using server = await serve([run], { pictures });
  using page = await EventStream.open(server.url);
  expect((await page.next()).parts.pictures).toContain('data-ask="pictures"');
  expect((await ask(server.url, "/pictures", { method: "POST" })).status).toBe(403);
  const asked = { method: "POST", headers: { "x-moco-report": "1" } };
  expect((await ask(server.url, "/pictures", asked)).status).toBe(202);
  expect((await ask(server.url, "/pictures", asked)).status).toBe(409);
  let html = "";
  while (!html.includes("1 drawn so far")) html = (await page.next()).parts.pictures ?? html;
  expect(html).toContain('id="filters"');
  release();
  while (!html.includes("it is a ResNet")) html = (await page.next()).parts.pictures ?? html;
  expect((await ask(server.url, "/pictures", asked)).status).toBe(202);
  while (!html.includes("could not be drawn: the checkpoint is gone")) html = (await page.next()).parts.pictures ?? html;
  expect(html).toContain('id="filters"'); // what was drawn before stays
});

test("a log that cannot be read is told on the page; a taken port by name", async () => {
  const run = writeLog(newRun(), [runEntry()]);
  writeFileSync(join(run, "log.jsonl"), 'nonsense\n{"kind":"end"}\n', { flag: "a" });
  await using server = await serve([run]);
  expect((await ask(server.url, "/")).text).toContain("line 2 is not JSON");
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as AddressInfo;
  await expect(serve([run], { port })).rejects.toThrow(new RegExp(`port ${port} of 127.0.0.1 cannot be had.*choose another --port`));
  await expect(serve([run], { host: "192.0.2.1" })).rejects.toThrow(ReportServerError);
  other.close();
});
