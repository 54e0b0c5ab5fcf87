/** What goes wrong in a newcomer's first minutes is told with its remedy. */
import { mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { isImageName } from "../../lib/data/folder/imageEndings.js";
import { decodeWithSharp } from "../../lib/data/decoding/decode.js";
import { TooManyBadImagesError } from "../../lib/data/errors.js";
import { afterStop, resumeCommand } from "../../lib/cli/runFolder.js";
import { systemRemedy } from "../../lib/cli/systemErrors.js";
import { meantWords } from "../../lib/cli/words.js";
import { checkCache } from "../../lib/setup/diagnose.js";
import { isTooOld, tooOld } from "../../lib/setup/nodeVersion.mjs";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { startMoco } from "./moco.js";

const folder = temporaryFolder("first");

test("moco help COMMAND is moco COMMAND --help, and ~ is the home folder wherever a path begins", () => {
  expect(meantWords(["help"])).toEqual(["--help"]);
  expect(meantWords(["help", "knn"])).toEqual(["knn", "--help"]);
  expect(meantWords(["knn", "~/a b", "--out=~/runs", "~", "--out", "./~", "a~/b", "help"], "/home/ada")).toEqual(
    ["knn", "/home/ada/a b", "--out=/home/ada/runs", "/home/ada", "--out", "./~", "a~/b", "help"]);
  expect(meantWords(["~/x"])).toEqual([join(homedir(), "x")]);
});

test("an old Node.js is told so, by name", () => {
  expect(["18.20.8", "20.18.1", "19.9.0"].map(isTooOld)).toEqual([true, true, true]);
  expect(["20.19.0", "22.0.0", process.versions.node].map(isTooOld)).toEqual([false, false, false]);
  expect(tooOld("18.20.8")).toMatch(/^Node 18\.20\.8 is too old: 20\.19 or newer is needed; .*nodejs\.org/);
});

test("errors of the system end with what to do; others are left as they are", () => {
  const error = (code: string, path = "/somewhere"): Error => Object.assign(new Error(code), { code, path, syscall: "open" });
  expect(systemRemedy(error("EACCES"))).toMatch(/another folder/);
  expect(systemRemedy(error("ENOSPC"))).toMatch(/free some space/);
  expect(systemRemedy(error("EACCES", join(process.env.MOCO_CACHE ?? join(homedir(), ".cache", "moco-v3"), "x")))).toMatch(/MOCO_CACHE|another/);
  expect([systemRemedy(new Error("x")), systemRemedy("x"), systemRemedy(error("EOTHER"))]).toEqual([null, null, null]);
});

test("a file in the place of the run's folder is named, with the remedy", async () => {
  const images = join(folder, "images");
  mkdirSync(images);
  for (const name of ["1.jpg", "2.jpg"]) writeFileSync(join(images, name), "");
  const { code, stderr } = await startMoco(["pretrain", images, "-a", "resnet18", "-b", "2", "--out", join(images, "1.jpg")]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^error: ENOTDIR.*1\.jpg'\. There is a file where a folder is needed: /);
});

test("doctor says when the cache cannot be written, and whether that is in the way", () => {
  const file = join(folder, "no-folder");
  writeFileSync(file, "");
  const cache = join(file, "moco-v3");
  expect(checkCache({ cache }, true)).toEqual({
    name: "cache", status: "optional", found: `${cache} cannot be written (${file} is a file): no demo, no kernels of one's own`,
    fix: "export MOCO_CACHE=FOLDER, one that you may write to",
  });
  expect(checkCache({ cache }, false)).toMatchObject({ status: "missing", found: expect.stringMatching(/: libtorch cannot be fetched$/) as unknown });
  for (const there of [folder, join(folder, "not", "yet")]) expect(checkCache({ cache: there }, false)).toEqual({ name: "cache", status: "ok", found: there });
  // Root may write wherever it is not read-only.
  if (process.getuid?.() === 0) return;
  const closed = join(folder, "closed");
  mkdirSync(closed, { mode: 0o555 });
  expect(checkCache({ cache: closed }, true)).toMatchObject({ status: "optional", found: expect.stringMatching(/EACCES/) as unknown });
});

test("a demo that could not write its page does not begin", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  const { code, stdout, stderr } = await startMoco(["demo", "--out", join(file, "demo")]);
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/^error: ENOTDIR.*There is a file where a folder is needed/);
});

test("a run that is stopped before it has saved anything is begun again, not resumed", () => {
  const out = join(folder, "stopped");
  const command = resumeCommand("pretrain", out);
  expect(command).not.toContain("--resume");
  expect(afterStop(null, out, command)).toBe("Nothing is saved yet; give the same command again.");
  mkdirSync(out);
  writeFileSync(join(out, "checkpoint_0000.pth.tar"), "");
  expect(resumeCommand("pretrain", out)).toContain(`--resume ${out}`);
  expect(afterStop(null, out, "moco x")).toBe("There is nothing new to save.\nGo on with:\n  moco x");
  expect(afterStop("a/b", out, "moco x")).toBe("Everything is saved in a/b.\nGo on with:\n  moco x");
});

test("HEIC photographs are called by their name, and what macOS writes beside images is passed over", async () => {
  const heic = Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from("ftypheic"), Buffer.alloc(64)]);
  await expect(decodeWithSharp(heic)).rejects.toThrow(/HEIC photograph.*convert it to JPEG/);
  expect(["IMG.JPG", "._IMG.JPG", "a._b.jpg", "IMG.HEIC"].map(isImageName)).toEqual([true, false, true, false]);
});

test("too many bad images: the message names a limit that would do", () => {
  const bad = Array.from({ length: 3 }, (_, index) => ({ index, name: `${index}.jpg`, reason: "empty" }));
  expect(new TooManyBadImagesError(bad, 75, 0.01).message).toMatch(/up to 10 % left out with --max-bad 0\.1\.$/);
  expect(new TooManyBadImagesError(bad, 3, 0.5).message).toMatch(/up to 100 % left out with --max-bad 1\.$/);
});
