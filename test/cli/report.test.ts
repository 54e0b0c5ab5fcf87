import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { fullRun, runEntry, steps, writeLog } from "../report/run/sampleRun.js";
import { mainScript, startCommand, startMoco } from "./moco.js";

const folder = temporaryFolder("report");
const photos = join(folder, "photos");
mkdirSync(photos);
for (const name of ["china.jpg", "gray.jpg", "rgba.png"]) copyFileSync(fixturePath(`augment/files/${name}`), join(photos, name));
writeFileSync(join(photos, "empty\u001b[2J.jpg"), "");

test("writes a page, prints its name, and tells what was left out", async () => {
  const out = join(folder, "views.html");
  const { code, stdout, stderr } = await startMoco(["report", "augment", photos, "--out", out, "--image-size", "32"]);
  expect(stderr).toMatch(/^left out: empty\ufffd\[2J\.jpg: .*empty.*\n3 of 4 images with two views each, [\d.]+ kB\n$/);
  expect([code, stdout]).toEqual([0, `${out}\n`]);
  const page = readFileSync(out, "utf8");
  for (const name of ["china.jpg", "gray.jpg", "rgba.png"]) expect(page).toContain(`<bdi>${name}</bdi>`);
});

test("--json has the parameters, with a file or without", async () => {
  const run = async (...flags: string[]): Promise<ReturnType<typeof JSON.parse>> => {
    const { code, stdout, stderr } = await startMoco(["report", "augment", photos, "--json", "--rows", "2", "--seed", "9", ...flags]);
    if (code !== 0) throw new Error(stderr);
    expect(stdout).not.toContain("\u001b");
    return JSON.parse(stdout);
  };
  const report = await run("--crop-min", "0.5");
  const cropScale = [0.5, 1];
  expect(report).toMatchObject({ out: null, total: 4, seed: 9, epoch: 0, imageSize: 224, recipes: [{ cropScale }, { cropScale }] });
  expect(report.images).toHaveLength(2);
  for (const { views } of report.images) for (const { cropShare } of views) expect(cropShare).toBeGreaterThan(0.45);
  const out = join(folder, "views.png");
  const names = ({ images }: { images: { name: string }[] }): string[] => images.map(({ name }) => name);
  expect(names(await run("--out", out))).toEqual(names(report));
  expect(readFileSync(out).subarray(1, 4).toString()).toBe("PNG");
});

test("without fonts a picture's text cannot be read; it says so", async () => {
  const config = join(folder, "fonts.conf");
  writeFileSync(config, '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig></fontconfig>');
  const words = [`FONTCONFIG_FILE=${config}`, process.execPath, mainScript, "report", "augment", photos, "--image-size", "8", "--out"];
  const picture = await startCommand("/usr/bin/env", [...words, join(folder, "plain.png")]);
  expect(picture.stderr).toMatch(/warning: this system has no fonts.*write \.html/);
  expect((await startCommand("/usr/bin/env", [...words, join(folder, "plain.html")])).stderr).not.toContain("fonts");
});

test("wrong usage ends with exit code 2, a failure with 1, and both say what to do", async () => {
  const usage: [string[], RegExp][] = [
    [["report"], /give the folder of a run, such as runs\/first, or augment DATA/],
    [["report", "runs/first", "--port", "80"], /--port 80 is where --serve serves; add --serve/],
    [["report", "runs/first", "--out", "page.pdf"], /page\.pdf; give a name that ends in \.html/],
    [["report", "runs/first", "--serve", "--out", "page.html"], /--serve writes no file/],
    [["report", "runs/first", "--serve", "--port", "70000"], /at most 65535/],
    [["report", "augment"], /missing required argument/],
    [["report", "augment", photos], /give --out FILE\.html or FILE\.png/],
    [["report", "augment", photos, "--out", join(folder, "a.pdf")], /a\.pdf; give a name that ends in \.html or \.png/],
    [["report", "augment", photos, "--json", "--rows", "0"], /whole number of at least 1/],
    [["report", "augment", photos, "--json", "--crop-min", "2"], /number above 0 and of at most 1/],
  ];
  for (const [words, message] of usage) {
    const { code, stderr, stdout } = await startMoco(words);
    expect([words, code, stdout]).toEqual([words, 2, ""]);
    expect(stderr).toMatch(message);
  }
  expect(await startMoco(["report", join(folder, "nowhere")]))
    .toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^error: .*nowhere.log\.jsonl is not there; give the folder of a training/) });
  const gone = await startMoco(["report", "augment", join(folder, "nowhere"), "--out", join(folder, "none.html")]);
  expect(gone).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^error: .*nowhere/) });
  const unreadable = join(folder, "unreadable");
  mkdirSync(unreadable);
  writeFileSync(join(unreadable, "a.jpg"), "no image");
  const failed = await startMoco(["report", "augment", unreadable, "--out", join(folder, "none.html")]);
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: none of the first 1 images can be read \(a\.jpg: /) });
  expect(existsSync(join(folder, "none.html"))).toBe(false);
});

test("a run's report, and two side by side", async () => {
  const [first, second] = [join(folder, "first"), join(folder, "second")];
  writeLog(first, fullRun());
  writeLog(second, [runEntry(), ...steps(0, 3)]);
  expect(await startMoco(["report", first])).toMatchObject({ code: 0, stdout: `${join(first, "report.html")}\n`, stderr: expect.stringMatching(/^31 steps, \d+\.\d kB\n$/) });
  const out = join(folder, "comparison.html");
  const both = await startMoco(["report", first, join(second, "log.jsonl"), "--out", out, "--json"]);
  expect(JSON.parse(both.stdout)).toMatchObject({ out, steps: [31, 3], figures: 0 });
  expect(readFileSync(out, "utf8")).toContain("Comparison of 2 runs");
});

test.each(["SIGINT", "SIGTERM"] as const)("--serve follows a run that has not begun, until %s", async (signal) => {
  const run = join(folder, `served-${signal}`);
  let asked: Promise<string> | undefined;
  const { code, stdout, stderr } = await startMoco(["report", run, "--serve", "--port", "0"], {
    onStdout: (text, child) => {
      asked ??= fetch(text.trim()).then((answer) => answer.text()).finally(() => child.kill(signal));
    },
  });
  expect([code, stderr]).toEqual([0, `Following ${run}. Ctrl-C ends it.\n`]);
  expect(stdout).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\n$/);
  await expect(asked).resolves.toContain("waiting");
});

test("--help shows flags and an example", async () => {
  for (const words of [["report", "--help"], ["report", "augment", "--help"]]) {
    const { code, stdout } = await startMoco(words);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples?:\n(.*\n)* +\$ moco report augment photos --out views\.html/);
  }
});
