/** The signal with which Slurm announces the end of a job's time: the run saves, has its job started again, and ends. */
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { fixturePath } from "../support/fixtures.js";
import { mainScript, startCommand, startMoco, type Outcome } from "./moco.js";

let root: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "moco-requeue-"));
  mkdirSync(join(root, "photos"));
  for (let i = 0; i < 8; i++) cpSync(fixturePath("augment/files/baseline_422.jpg"), join(root, "photos", `${i}.jpg`));
  // Writes down what it is asked.
  writeFileSync(join(root, "scontrol"), `#!/bin/sh\necho "$@" >> "${root}/asked"\nexit "\${SCONTROL_CODE:-0}"\n`);
  chmodSync(join(root, "scontrol"), 0o755);
});
afterAll(() => rmSync(root, { recursive: true }));

const words = (out: string): string[] => [
  "pretrain", "photos", "-a", "vit_small", "--image-size", "32", "-b", "4", "--moco-dim", "8", "--moco-mlp-dim", "16", "--epochs", "1000",
  "--save-every", "1000", "--seed", "1", "--threads", "1", "--out", out, "--auto-resume", "--requeue-signal", "USR2",
];

/** Runs until the first step is done, then sends the signal. */
async function signalled(out: string, variables: Record<string, string>): Promise<Outcome> {
  let sent = false;
  const environment = Object.entries({ PATH: [root, process.env.PATH].join(delimiter), ...variables }).map(([name, value]) => `${name}=${value}`);
  return startCommand("env", [...environment, process.execPath, mainScript, ...words(out)], {
    cwd: root,
    onStderr: (text, child) => {
      if (!sent && text.includes("step 1/2")) sent = child.kill("SIGUSR2");
    },
  });
}

const asked = (): string[] => readFileSync(join(root, "asked"), "utf8").trim().split("\n");

test("the run saves, requeues its job and ends with 0; started again, it goes on", async () => {
  const { code, stderr } = await signalled("one", { SLURM_JOB_ID: "41" });
  expect(stderr).toContain("Slurm job 41 is requeued and goes on from there.");
  expect(code).toBe(0);
  expect(asked().at(-1)).toBe("requeue 41");
  expect(readdirSync(join(root, "one"))).toContain("last.pth.tar");

  const again = await startMoco([...words("one"), "--stop-after", "1", "--quiet"], { cwd: root });
  expect([again.code, again.stderr]).toEqual([0, expect.stringMatching(/Stopped as --stop-after asks after 1 step/)]);
});

test("a task of an array is requeued by its own number; Slurm's refusal is told, and what was saved stays", async () => {
  const { code, stderr } = await signalled("two", { SLURM_JOB_ID: "45", SLURM_ARRAY_JOB_ID: "42", SLURM_ARRAY_TASK_ID: "3", SCONTROL_CODE: "1" });
  expect(asked().at(-1)).toBe("requeue 42_3");
  expect(stderr).toMatch(/the job is not requeued: scontrol requeue 42_3 failed/);
  expect(code).toBe(1);
  expect(readdirSync(join(root, "two"))).toContain("last.pth.tar");
});

test.each([
  [["--requeue-signal", "USR2", "--out", "x"], /--requeue-signal USR2 .*--auto-resume; add it/],
  [["--requeue-signal", "HUP", "--out", "x", "--auto-resume"], /Allowed choices are USR1, USR2/],
  [["--auto-resume"], /--auto-resume goes on with what is in the run's folder; name it: --out DIR/],
])("%j is wrong usage", async (flags, message) => {
  const { code, stderr } = await startMoco(["pretrain", "photos", ...flags], { cwd: root });
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
});
