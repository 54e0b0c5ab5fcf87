import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Figure } from "../figure.js";
import { dataElement, escapeHtml, htmlPage } from "../htmlPage.js";
import { inlineModules } from "../inlineModules.js";
import { sections } from "./chartSpecs.js";
import { chartsOf, runSeries, type PageData } from "./pageData.js";
import { pageParts, type PageParts, type ShownRun } from "./runParts.js";
import { runStyle } from "./runStyle.js";
import { runKind, kindWords } from "./usualOptions.js";

/** What a run's page shows besides the runs. */
export interface RunPageOptions {
  /** Default: the run's name. */
  title?: string;
  /** HTML of the section about what the network sees, see `picturesHtml`; empty for none. */
  pictures?: string;
  /** Whether it comes from a server that tells what is new. */
  live?: boolean;
}

let library: { script: string; style: string } | null = null;

/** The page's script, and the style of its charts. */
export function pageScript(): { script: string; style: string } {
  if (library !== null) return library;
  const uplot = join(dirname(createRequire(import.meta.url).resolve("uplot/package.json")), "dist");
  const entry = fileURLToPath(new URL("../client/main.js", import.meta.url));
  return (library = {
    script: inlineModules(entry, { uplot: readFileSync(join(uplot, "uPlot.iife.min.js"), "utf8").trim() }),
    style: readFileSync(join(uplot, "uPlot.min.css"), "utf8"),
  });
}

/** A run's report, or several side by side, as one self-contained page. */
export function runPage(runs: readonly ShownRun[], { title: given, pictures = "", live = false }: RunPageOptions = {}): string {
  const charts = chartsOf(runs.map(({ history }) => history));
  const data: PageData = { charts, runs: runs.map(({ name, history }) => runSeries(name, history)) };
  const parts = pageParts(runs, charts);
  const part = (id: keyof PageParts): string => `<div id="part-${id}">${parts[id]}</div>`;
  const title = given ?? (runs.length > 1 ? `Comparison of ${runs.length} runs` : runs[0]!.name);
  const { script, style } = pageScript();
  const words: [string, string][] = [
    ...sections.map(({ id, title: name }): [string, string] => [id, name]),
    ...(pictures === "" ? [] : [["pictures", "What the network sees"] as [string, string]]),
    ["options", "Options"], ["events", "Events"], ["unreadable", "Images that cannot be read"], ["about", "Versions and machine"],
  ];
  const body = `<a class="skip" href="#main">To the report</a>
<header><h1>${escapeHtml(title)}</h1>${live ? '<span class="live">Updates: <span id="live" class="badge wait" role="status">connecting</span></span>' : ""}
<button type="button" id="theme" class="toggle" aria-pressed="false">Dark</button></header>
<main id="main" tabindex="-1">
<h2 class="hidden">How it stands</h2>
${part("status")}
<nav aria-label="Parts of the report"><ul>${words.map(([id, name]) => `<li id="to-${id}"><a href="#${id}">${escapeHtml(name)}</a></li>`).join("")}</ul></nav>
${runs.length > 1 ? "<h2>Final figures</h2>" : '<h2 class="hidden">Figures</h2>'}
${part("figures")}
<div id="controls" hidden></div>
${signs}
<noscript><p class="detail wait">The charts are drawn by a script, which this browser does not run. The figures stand in "All charts in numbers".</p></noscript>
${sections.map(({ id, title: name }) => `<section id="${id}" hidden><h2>${name}</h2><div class="charts" id="charts-${id}"></div></section>`).join("\n")}
${pictures === "" && !live ? "" : `<section id="pictures"><div id="part-pictures">${pictures}</div></section>`}
<section id="options"><h2>Options</h2>${part("options")}</section>
<section id="events"><h2>Events</h2>${part("events")}</section>
<section id="unreadable"><h2>Images that cannot be read</h2>${part("unreadable")}</section>
<section id="about"><h2>Versions and machine</h2>${part("about")}</section>
</main>
${dataElement("data", data)}`;
  const kind = runs.length === 1 && runs[0]!.history.latest !== null ? `, ${kindWords[runKind(runs[0]!.history.latest.options ?? {})].title}` : "";
  return htmlPage({ title: `${title}${kind} · MoCo v3`, style: style + runStyle, body, script, live });
}

/** What the marks in the charts mean. */
const sign = (drawing: string, words: string): string => `<li><svg viewBox="0 0 14 14" aria-hidden="true">${drawing}</svg>${words}</li>`;
const triangle = (colour: string): string => `<path d="M2 2H12L7 11Z" fill="var(--${colour})"/>`;
const line = (colour: string, path: string, more = ""): string => `<path d="${path}" stroke="var(--${colour})" stroke-width="2"${more}/>`;
const signs = `<ul id="signs" class="signs small" hidden aria-label="Marks in the charts">${[
  sign(line("accent2", "M7 0V14", ' stroke-dasharray="3 2"'), "resumed"), sign(triangle("warn"), "warning"), sign(triangle("bad"), "spike that was answered"),
  sign(line("good", "M7 8V14"), "checkpoint"), sign(line("bad", "M7 3V14"), "image left out"),
].join("")}</ul>`;

/** The section about what the network sees. */
export function picturesHtml(figures: readonly Figure[], { button = false, note = "" }: { button?: boolean; note?: string } = {}): string {
  if (figures.length === 0 && !button && note === "") return "";
  const ask = button ? `<p><button type="button" data-ask="pictures">${figures.length === 0 ? "Draw the pictures" : "Draw them again, from the newest checkpoint"}</button></p>` : "";
  const shown = figures.map(({ id, title, caption, body }) =>
    `<figure class="figure" id="${escapeHtml(id)}"><h3>${escapeHtml(title)}</h3><figcaption class="small">${escapeHtml(caption)}</figcaption>${body}</figure>`);
  return `<h2>What the network sees</h2>${ask}${note === "" ? "" : `<p class="small" role="status">${escapeHtml(note)}</p>`}${shown.join("\n")}`;
}
