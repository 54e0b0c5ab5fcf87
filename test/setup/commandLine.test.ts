import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "@jest/globals";
import { checkJpeg, type Diagnosis } from "../../lib/setup/index.js";
import { temporaryFolder } from "./fakeTorch.js";

const program = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const folder = temporaryFolder("cli");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function moco(args: string[], environment: Record<string, string> = {}): { status: number | null; stdout: string; stderr: string } {
  const env = { PATH: process.env.PATH, HOME: folder, MOCO_CACHE: join(folder, "cache"), ...environment };
  return spawnSync(process.execPath, [program, ...args], { encoding: "utf8", env });
}

test("help is a result, with an example", () => {
  const { status, stdout } = moco(["--help"]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/setup[^]*doctor[^]*Example/);
  expect(moco(["setup", "--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("$ moco setup --archive") });
});

test("wrong usage exits with 2 and says so on standard error", () => {
  for (const args of [[], ["frobnicate"], ["setup", "--frobnicate"], ["setup", "--archive"], ["setup", "--archive", "a.zip", "--cuda"]]) {
    const { status, stdout, stderr } = moco(args);
    expect([args, status, stdout]).toEqual([args, 2, ""]);
    expect(stderr).not.toBe("");
  }
});

test("a failure exits with 1 and a message that says what to do, without a stack", () => {
  const { status, stderr } = moco(["setup"], { LIBTORCH: join(folder, "nowhere") });
  expect(status).toBe(1);
  expect(stderr).toMatch(/^error: libtorch was not found[^]*LIBTORCH=.*nowhere[^]*moco setup --archive FILE/);
  expect(stderr).not.toContain("    at ");
  expect(moco(["setup"], { LIBTORCH: "/nowhere", MOCO_DEBUG: "1" }).stderr).toContain("    at ");
  expect(moco(["doctor"], { MOCO_QUIET: "perhaps" })).toMatchObject({ status: 1, stderr: expect.stringContaining("MOCO_QUIET=perhaps") });
});

test("what decodes JPEGs, and how to have it faster", () => {
  expect(checkJpeg("libjpeg-turbo 2.1.5")).toEqual({ name: "jpeg", status: "ok", found: "libjpeg-turbo 2.1.5, in the addon" });
  expect(checkJpeg("")).toMatchObject({ name: "jpeg", status: "optional", found: expect.stringContaining("sharp"),
    fix: expect.stringMatching(/jpeg.* && npx moco setup --rebuild$/) });
});

test("doctor gives for each thing missing the command that mends it", () => {
  const { status, stdout } = moco(["doctor", "--json"]);
  expect(status).toBe(1);
  const { ready, checks } = JSON.parse(stdout) as Diagnosis;
  expect(ready).toBe(false);
  expect(checks.map(({ name }) => name)).toEqual(["node", "cache", "libtorch", "addon", "devices", "python", "compiler", "cmake"]);
  expect(checks.find(({ name }) => name === "libtorch")).toMatchObject({ status: "missing", fix: "npx moco setup" });
  for (const each of checks) if (each.status !== "ok") expect(each.fix).toBeTruthy();
  const bare = moco(["doctor"], { PATH: folder });
  expect(bare.stdout).toMatch(/✗ python[^]*✗ compiler +not found[^]*✗ cmake +not found/);
});
