/** A report in a real browser: charts, controls, keyboard, widths, colours, and what a server tells. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Browser, Page } from "playwright-core";
import type { LogEntry } from "../../../lib/report/index.js";
import { writeRunReport } from "../../../lib/report/run/runReport.js";
import { ReportServer } from "../../../lib/report/run/serveRuns.js";
import { startChromium, testChromium } from "../../support/chromium.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { fullRun, runEntry, stepEntry, steps, writeLog } from "./sampleRun.js";

const folder = temporaryFolder("report-browser");
const shots = process.env.MOCO_TEST_SCREENSHOTS;

const logs: Record<string, LogEntry[]> = {
  full: fullRun(),
  empty: [runEntry()],
  one: [runEntry(), stepEntry(0)],
  plain: [runEntry({ stepsPerEpoch: 500 }), ...steps(0, 2000), { kind: "end", reason: "finished", seconds: 1000 }],
};

async function writePage(names: string[]): Promise<string> {
  const runs = names.map((name) => writeLog(join(folder, names.join("-"), name), logs[name]!));
  const { out } = await writeRunReport(runs);
  return pathToFileURL(out).href;
}

/** Boxes of the text that a reader sees, and those of two that lie over each other. */
const overlaps = `(() => {
  const shown = [...document.querySelectorAll("h1, h2, h3, button, a, summary, dt, dd, figcaption, .legend > *, .plot, .badge, .signs li, td, th, .small")]
    .filter((each) => each.checkVisibility() && !each.closest(".hidden") && !each.matches(".skip") && each.getClientRects().length > 0);
  const boxes = shown.map((each) => ({ each, box: each.getBoundingClientRect() }));
  const found = [];
  boxes.forEach(({ each, box }, i) => boxes.slice(i + 1).forEach(({ each: other, box: second }) => {
    if (each.contains(other) || other.contains(each)) return;
    // Tables scroll in their own place, and the controls stay in sight over what is scrolled.
    if (each.closest(".wide") || other.closest(".wide") || each.closest("#controls") !== other.closest("#controls")) return;
    const [width, height] = [Math.min(box.right, second.right) - Math.max(box.left, second.left), Math.min(box.bottom, second.bottom) - Math.max(box.top, second.top)];
    if (width > 2 && height > 2) found.push([each.textContent.slice(0, 40), other.textContent.slice(0, 40), width, height]);
  }));
  return found;
})()`;

/** Contrast of all text to what is behind it, where it is below 4.5. */
const pale = `(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (each) => { for (let at = each; at; at = at.parentElement) { const colour = numbers(getComputedStyle(at).backgroundColor); if (colour.length < 4 || colour[3] > 0) return colour; } return [255, 255, 255]; };
  return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() && !each.disabled && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ""))
    .map((each) => { const [a, b] = [light(numbers(getComputedStyle(each).color)), light(behind(each))].sort((x, y) => y - x); return [each.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)]; })
    .filter(([, contrast]) => contrast < 4.5);
})()`;

(testChromium === null ? describe.skip : describe)("in Chromium", () => {
  let browser: Browser;
  const faults: string[] = [];
  beforeAll(async () => {
    browser = await startChromium();
  });
  afterAll(() => browser.close());

  async function open(url: string): Promise<Page> {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: "light", reducedMotion: "reduce" });
    page.on("request", (request) => {
      if (!request.url().startsWith("data:") && new URL(request.url()).origin !== new URL(url).origin) faults.push(request.url());
    });
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") faults.push(message.text());
    });
    await page.goto(url);
    return page;
  }

  test.each(["full", "empty", "one", "plain", "full plain one"])("%s: whole at both widths, in both colours", async (runs) => {
    const names = runs.split(" ");
    const url = await writePage(names);
    const backgrounds = new Set<string>();
    const page = await open(url);
    for (const [width, dark] of [[1280, false], [390, true]] as const) {
      // The page that is open follows: its width, and the system's colours.
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
      await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
      expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(0);
      expect(await page.evaluate(overlaps)).toEqual([]);
      expect(await page.evaluate(pale)).toEqual([]);
      expect(await page.title()).not.toBe("broken");
      backgrounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"));
      const charts = page.locator(".chart");
      expect((await charts.count()) > 0).toBe(!names.includes("empty"));
      // A chart says in words what it shows, with its unit; its lines are on the canvas.
      for (const plot of await page.locator(".plot").all()) {
        expect(await plot.getAttribute("aria-label")).toMatch(/^Chart of .+, in .+, over steps done\. .+: from .+ to .+, between/);
        expect(await plot.locator("canvas").count()).toBe(1);
      }
      if (shots) {
        mkdirSync(shots, { recursive: true });
        await page.screenshot({ path: join(shots, `${names.join("-")}-${width}-${dark ? "dark" : "light"}.png`), fullPage: true });
      }
    }
    await page.close();
    expect(backgrounds.size).toBe(2);
    expect(faults).toEqual([]);
  });

  test("axes have units and ticks that do not run into each other", async () => {
    const url = await writePage(["full", "plain"]);
    const page = await browser.newPage({ viewport: { width: 390, height: 900 } });
    // What is written on canvases, and where: turned text is a label of an axis.
    await page.addInitScript(`
      window.written = [];
      const fill = CanvasRenderingContext2D.prototype.fillText;
      CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        const { a, b, e, f } = this.getTransform();
        const width = this.measureText(text).width;
        window.written.push({ canvas: this.canvas, text, turned: Math.abs(b) > 0.5, x: a * x + e, y: f + y, width, align: this.textAlign });
        return fill.apply(this, arguments);
      };`);
    await page.goto(url);
    const perChart = await page.evaluate(`[...document.querySelectorAll(".chart")].map((chart) => {
      const mine = window.written.filter(({ canvas }) => canvas === chart.querySelector("canvas"));
      const bottom = Math.max(...mine.filter(({ turned }) => !turned).map(({ y }) => y));
      const row = mine.filter(({ turned, align, y }) => !turned && align === "center" && Math.abs(y - bottom) > 3);
      return {
        id: chart.id, labels: mine.filter(({ turned }) => turned).map(({ text }) => text), height: chart.querySelector("canvas").height, width: chart.querySelector("canvas").width,
        longest: Math.max(0, ...mine.filter(({ turned }) => turned).map(({ width }) => width)),
        words: mine.map(({ text }) => text), ticks: row.map(({ x, width, text }) => ({ from: x - width / 2, to: x + width / 2, text })).sort((a, b) => a.from - b.from),
      };
    })`) as { id: string; labels: string[]; height: number; width: number; longest: number; words: string[]; ticks: { from: number; to: number; text: string }[] }[];
    expect(perChart.length).toBeGreaterThan(10);
    for (const { id, labels, longest, height, width, words, ticks } of perChart) {
      expect([id, labels.length]).toEqual([id, 1]);
      expect(labels[0]!.length).toBeGreaterThan(1);
      expect(longest).toBeLessThan(height);
      expect(words).toContain("steps done");
      const clash = ticks.filter((tick, i) => i > 0 && ticks[i - 1]!.to > tick.from && ticks[i - 1]!.text !== tick.text);
      expect([id, clash]).toEqual([id, []]);
      expect([id, ticks.filter(({ from, to }) => from < 0 || to > width)]).toEqual([id, []]);
    }
    await page.close();
  });

  test("works from a keyboard", async () => {
    const page = await open(await writePage(["full", "plain"]));
    const focused = (): Promise<string> => page.evaluate("document.activeElement.textContent.trim() || document.activeElement.className");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("To the report");
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("main");
    const order: string[] = [];
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      const name = await focused();
      // What has the focus is seen to have it.
      expect(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")).not.toBe("none");
      order.push(name);
      if (name === "plot") break;
    }
    for (const name of ["full", "plain", "Steps", "Epochs", "Hours", "Smooth", "Events", "plot"]) expect(order).toContain(name);

    // In a chart: along its values, closer, and back.
    const spoken = page.locator(".chart [aria-live]").first();
    await page.keyboard.press("Home");
    await expect(spoken.textContent()).resolves.toMatch(/^steps done: 1\. /);
    await page.keyboard.press("ArrowRight");
    await expect(spoken.textContent()).resolves.toMatch(/^steps done: 2\. /);
    const reset = page.getByRole("button", { name: "Show all" });
    expect(await reset.isDisabled()).toBe(true);
    await page.keyboard.press("+");
    expect(await reset.isDisabled()).toBe(false);
    await page.keyboard.press("0");
    expect(await reset.isDisabled()).toBe(true);

    const axis = page.getByRole("button", { name: "Hours" });
    await axis.focus();
    await page.keyboard.press("Space");
    expect(await axis.getAttribute("aria-pressed")).toBe("true");
    expect(await page.locator(".plot").first().getAttribute("aria-label")).toContain("over training time in hours");
    const run = page.getByRole("group", { name: "Runs" }).getByRole("button", { name: "plain" });
    await run.press("Enter");
    expect(await run.getAttribute("aria-pressed")).toBe("false");
    expect(await page.locator("#chart-loss .legend").textContent()).not.toContain("plain");
    const table = page.locator("#chart-loss details");
    await table.locator("summary").press("Enter");
    await table.locator("tbody tr").nth(24).waitFor();
    const dark = page.getByRole("button", { name: "Dark" });
    await dark.press("Enter");
    expect(await dark.getAttribute("aria-pressed")).toBe("true");
    expect(await page.evaluate("getComputedStyle(document.body).backgroundColor")).toBe("rgb(18, 19, 22)");
    expect(faults).toEqual([]);
    await page.close();
  });

  test("follows a run without a reload, from before its beginning to its end, over a server that was started again", async () => {
    const run = join(folder, "live");
    const server = await ReportServer.start([run], { port: 0, pollMs: 20 });
    const page = await open(server.url);
    const sign = page.locator("#live");
    await sign.getByText("live").waitFor();
    await page.getByText("for the run to begin its log").waitFor();
    expect(await page.evaluate("window.same = true")).toBe(true);
    writeLog(run, [runEntry(), ...steps(0, 3)]);
    const loss = page.locator("#chart-loss .plot");
    await page.locator("#chart-loss table, #chart-loss canvas").first().waitFor();
    writeLog(run, steps(3, 5));
    await page.getByText("5 of 40 steps").waitFor();
    expect(await loss.getAttribute("aria-label")).toContain("from 4 to 3.92");
    const port = Number(new URL(server.url).port);
    await server.close();
    await sign.getByText("no connection").waitFor();
    writeLog(run, [runEntry({ firstStep: 2, resumedFrom: "checkpoint" }), ...steps(2, 4)]);
    await using again = await ReportServer.start([run], { port, pollMs: 20 });
    await page.getByText("4 of 40 steps").waitFor();
    expect(await loss.getAttribute("aria-label")).toContain("from 4 to 3.94");
    writeLog(run, [...steps(4, 40), { kind: "end", reason: "finished", seconds: 1 }]);
    await page.locator(".badge", { hasText: "finished" }).waitFor();
    expect(await page.evaluate("window.same")).toBe(true);
    expect(new URL(again.url).port).toBe(String(port));
    // The lost connection is the browser's to tell; nothing else went wrong.
    expect(faults.filter((fault) => !/ERR_(CONNECTION|INCOMPLETE|EMPTY)/.test(fault))).toEqual([]);
    faults.length = 0;
    await page.close();
  });
});
