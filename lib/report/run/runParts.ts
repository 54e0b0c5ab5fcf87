import { escapeHtml, escapeLines } from "../htmlPage.js";
import type { ChartSpec } from "./chartSpecs.js";
import { formatHours, formatNumber } from "./formatNumber.js";
import type { RunEvent, RunHistory } from "./runHistory.js";
import type { ColumnName } from "./stepColumns.js";
import { differingOptions, kindWords, optionLines, runKind } from "./usualOptions.js";

/** A run as its report shows it. */
export interface ShownRun {
  name: string;
  folder: string;
  history: RunHistory;
  /** When its log was last written to, in milliseconds since 1970. */
  writtenAt: number | null;
  /** Why its log cannot be read any further. */
  problem?: string | null;
}

/** Parts of the page that change while a run goes on: HTML by the id of their element. */
export type PageParts = Record<"status" | "figures" | "options" | "events" | "unreadable" | "about", string>;

const mostEvents = 200;
const mostUnreadable = 200;
/** The last tenth of a run tells how it stands, but no more steps than these. */
const mostRecent = 100;
const whole = (value: number): string => Math.round(value).toLocaleString("en");
const percent = (value: number): string => `${formatNumber(value, 3)} %`;
const cell = (text: string): string => `<td>${escapeHtml(text)}</td>`;
const head = (text: string): string => `<th scope="row">${escapeHtml(text)}</th>`;

export function pageParts(runs: readonly ShownRun[], charts: readonly ChartSpec[]): PageParts {
  return {
    status: runs.map((run, i) => statusHtml(run, runs.length > 1 ? i : null)).join("\n"),
    figures: runs.length > 1 ? finalFigures(runs) : tiles(runs[0]!.history) + rangesTable(runs[0]!.history, charts),
    options: optionsHtml(runs),
    events: eventsHtml(runs),
    unreadable: unreadableHtml(runs),
    about: aboutHtml(runs),
  };
}

/** What a run is, and how it stands. */
function statusHtml({ name, history, writtenAt, problem = null }: ShownRun, index: number | null): string {
  const { latest } = history;
  const key = index === null ? "" : `<span class="key" style="--key: var(--series${(index % 6) + 1})"></span>`;
  const title = index === null ? "" : `<strong>${key}${escapeHtml(name)}</strong> `;
  if (problem !== null) return `<p>${title}<span class="badge bad">cannot be read</span></p><p class="detail bad">${escapeLines(problem)}</p>`;
  if (latest === null) return `<p>${title}<span class="badge wait">waiting</span> for the run to begin its log.</p>`;
  const { options, device, images } = latest;
  const { kind, word, detail } = standing(history, writtenAt);
  const facts = [
    String(options.arch ?? options.encoder ?? "encoder"), kindWords[runKind(options)].title, `${whole(images)} images`,
    `batches of ${String(options.batchSize)}`, `on ${device}`,
  ].join(" · ");
  const planned = history.stepsPlanned;
  const done = planned > 0 ? Math.min(100, (100 * history.stepsDone) / planned) : 0;
  const progress = `${whole(history.stepsDone)} of ${whole(planned)} steps`;
  return `<p>${title}<span class="badge ${kind}">${escapeHtml(word)}</span> ${escapeHtml(facts)}</p>
${detail === "" ? "" : `<p class="detail ${kind}">${escapeLines(detail)}</p>`}
<div class="progress" role="progressbar" aria-label="${escapeHtml(`steps done of ${name}`)}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="${done.toFixed(1)}" aria-valuetext="${progress}"><span style="width: ${done.toFixed(2)}%"></span></div>
<p class="small">${progress}${planned > 0 ? `, epoch ${formatNumber(history.stepsDone / latest.stepsPerEpoch, 3)} of ${whole(latest.epochs)}` : ""}</p>`;
}

/** How a run ended, or that it has not. */
function standing({ end, resumptions, stepsDone }: RunHistory, writtenAt: number | null): { kind: "good" | "bad" | "wait"; word: string; detail: string } {
  if (end?.reason === "finished") return { kind: "good", word: "finished", detail: "" };
  if (end?.reason === "failed") return { kind: "bad", word: "failed", detail: end.message ?? "The log has no reason." };
  if (end?.reason === "interrupted") return { kind: "wait", word: "stopped", detail: "It was stopped by a signal, and saved; --resume goes on." };
  if (end !== null) return { kind: "wait", word: "stopped", detail: "It stopped after as many steps as it was told to (--stop-after); --resume goes on." };
  const last = writtenAt === null ? "" : ` Last line: ${new Date(writtenAt).toISOString().slice(0, 16).replace("T", " ")} UTC.`;
  const begun = stepsDone > 0 || resumptions > 0 ? "" : " No step is done yet.";
  return { kind: "wait", word: "no end yet", detail: `The log does not tell of an end: the run goes on, or it was killed.${begun}${last}` };
}

interface Tile {
  name: string;
  value: string;
  note: string;
}

/** The figures that a reader looks for first. */
function figuresOf(history: RunHistory): Tile[] {
  const { steps, knn, evaluations, end } = history;
  const lastRow = steps.length - 1;
  const recent = Math.max(0, steps.length - Math.min(mostRecent, Math.ceil(steps.length / 10)));
  const mean = (name: ColumnName): number => {
    let [sum, count] = [0, 0];
    for (let row = recent; row <= lastRow; row++) {
      const value = steps.value(name, row);
      if (!Number.isNaN(value)) [sum, count] = [sum + value, count + 1];
    }
    return sum / count;
  };
  const best = <T extends { acc1: number; epoch: number }>(entries: readonly T[]): T => entries.reduce((a, b) => (b.acc1 > a.acc1 ? b : a));
  const tiles: Tile[] = [];
  if (lastRow >= 0) {
    const loss = mean("loss");
    const count = lastRow - recent + 1;
    tiles.push({ name: "Loss", value: formatNumber(loss), note: count === 1 ? "of the last step" : `mean of the last ${count} steps` });
  }
  if (knn.length > 0) {
    const top = best(knn);
    tiles.push({ name: "kNN accuracy", value: percent(knn.at(-1)!.acc1), note: `last; best ${percent(top.acc1)} after epoch ${top.epoch + 1}` });
  }
  if (evaluations.length > 0) {
    const top = best(evaluations);
    tiles.push({ name: "Accuracy", value: percent(top.acc1), note: `best, after epoch ${top.epoch + 1}; last ${percent(evaluations.at(-1)!.acc1)}` });
  } else if (steps.has("acc1")) {
    tiles.push({ name: "Training accuracy", value: percent(mean("acc1")), note: "mean of the last steps" });
  }
  if (steps.has("accuracy")) tiles.push({ name: "Own key found", value: percent(mean("accuracy")), note: "of queries, in the last steps" });
  if (lastRow >= 0) {
    tiles.push({ name: "Throughput", value: `${formatNumber(mean("imagesPerSecond"), 3)}/s`, note: "images, in the last steps" });
    tiles.push({ name: "Waiting for data", value: percent(mean("dataWait")), note: "of the time of the last steps" });
    tiles.push({ name: "Training time", value: formatHours(steps.hours(lastRow)), note: "of all steps together" });
  } else if (end !== null) {
    tiles.push({ name: "Time", value: formatHours(end.seconds / 3600), note: "until it ended" });
  }
  const warnings = history.events.filter(({ kind }) => kind === "warning").length;
  if (warnings > 0) tiles.push({ name: "Warnings", value: whole(warnings), note: `${whole(history.alerts)} unusual steps` });
  return tiles;
}

function tiles(history: RunHistory): string {
  const all = figuresOf(history);
  if (all.length === 0) return `<p class="small">No step is done yet: there are no figures to show.</p>`;
  return `<dl class="tiles">${all.map(({ name, value, note }) =>
    `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd><dd class="small">${escapeHtml(note)}</dd></div>`).join("")}</dl>`;
}

/** First, last, lowest and highest of every line: what the charts show, as text. */
function rangesTable({ steps }: RunHistory, charts: readonly ChartSpec[]): string {
  if (steps.length === 0) return "";
  const rows = charts.filter(({ source }) => source === "steps").flatMap(({ title, unit, lines }) => lines.flatMap(({ column, label }) => {
    const range = rangeOf(steps, column as ColumnName);
    if (range === null) return [];
    const name = lines.length > 1 ? `${title}: ${label}` : title;
    const at = (value: number, step: number): string => `${formatNumber(value)} <span class="small">step ${whole(step)}</span>`;
    return `<tr>${head(name)}${cell(unit)}${cell(formatNumber(range.first))}${cell(formatNumber(range.last))}<td>${at(range.low, range.lowStep)}</td><td>${at(range.high, range.highStep)}</td></tr>`;
  }));
  return `<details><summary>All charts in numbers</summary><div class="wide" tabindex="0" role="region" aria-label="All charts in numbers"><table>
<thead><tr><th scope="col">figure</th><th scope="col">unit</th><th scope="col">first</th><th scope="col">last</th><th scope="col">lowest</th><th scope="col">highest</th></tr></thead>
<tbody>${rows.join("\n")}</tbody></table></div></details>`;
}

function rangeOf(steps: RunHistory["steps"], column: ColumnName) {
  let range: { first: number; last: number; low: number; lowStep: number; high: number; highStep: number } | null = null;
  for (let row = 0; row < steps.length; row++) {
    const value = steps.value(column, row);
    if (Number.isNaN(value)) continue;
    const step = steps.step(row) + 1;
    range ??= { first: value, last: value, low: value, lowStep: step, high: value, highStep: step };
    range.last = value;
    if (value < range.low) [range.low, range.lowStep] = [value, step];
    if (value > range.high) [range.high, range.highStep] = [value, step];
  }
  return range;
}

function finalFigures(runs: readonly ShownRun[]): string {
  const columns = runs.map(({ history }) => new Map(figuresOf(history).map((tile) => [tile.name, tile])));
  const names = [...new Set(columns.flatMap((column) => [...column.keys()]))];
  if (names.length === 0) return `<p class="small">No step is done yet: there are no figures to compare.</p>`;
  const steps = `<tr>${head("Steps")}${runs.map(({ history }) => cell(whole(history.stepsDone))).join("")}</tr>`;
  const rows = names.map((name) => `<tr>${head(name)}${columns.map((column) => {
    const tile = column.get(name);
    return tile === undefined ? cell("–") : `<td>${escapeHtml(tile.value)}<br><span class="small">${escapeHtml(tile.note)}</span></td>`;
  }).join("")}</tr>`);
  return table(["figure", ...runs.map(({ name }) => name)], [steps, ...rows], "Final figures of the runs");
}

/** @param words the first column whose cells are words, which stand at the left */
function table(columns: readonly string[], rows: readonly string[], label: string, words = columns.length): string {
  return `<div class="wide" tabindex="0" role="region" aria-label="${escapeHtml(label)}"><table>
<thead><tr>${columns.map((text, i) => `<th scope="col"${i >= words ? ' class="text"' : ""}>${escapeHtml(text)}</th>`).join("")}</tr></thead>
<tbody>${rows.join("\n")}</tbody></table></div>`;
}

function optionsHtml(runs: readonly ShownRun[]): string {
  const begun = runs.filter(({ history }) => history.latest !== null);
  if (begun.length === 0) return `<p class="small">They come with the log's first line.</p>`;
  if (begun.length > 1) return differences(begun);
  const options = begun[0]!.history.latest!.options ?? {};
  const lines = optionLines(options);
  const { usual } = kindWords[runKind(options)];
  const changed = lines.filter(({ differs }) => differs);
  const row = ({ name, value, usual, differs }: (typeof lines)[number]): string =>
    `<tr${differs ? ' class="differs"' : ""}>${head(name)}<td class="text">${differs ? `<strong>${escapeHtml(value)}</strong>` : escapeHtml(value)}</td><td class="text">${escapeHtml(usual ?? "")}</td></tr>`;
  const columns = ["option", "this run", `default of ${usual}`];
  const intro = changed.length === 0
    ? `<p>All as ${escapeHtml(usual)} has them.</p>`
    : `<p>${changed.length} differ from the defaults of ${escapeHtml(usual)}${"lr" in options ? ", whose learning rate grows with the batch" : ""}:</p>${table(columns, changed.map(row), "Options that differ from the defaults", 1)}`;
  return `${intro}<details><summary>All ${lines.length} options</summary>${table(columns, lines.map(row), "All options", 1)}</details>`;
}

function differences(runs: readonly ShownRun[]): string {
  const lines = differingOptions(runs.map(({ history }) => history.latest!.options ?? {}));
  if (lines.length === 0) return "<p>The runs have the same options.</p>";
  const rows = lines.map(({ name, values }) => `<tr>${head(name)}${values.map((value) => `<td class="text">${escapeHtml(value)}</td>`).join("")}</tr>`);
  return `<p>Where the runs differ:</p>${table(["option", ...runs.map(({ name }) => name)], rows, "Options that differ between the runs", 1)}`;
}

const eventWords: Record<RunEvent["kind"], string> = {
  resumed: "resumed", warning: "warning", spike: "spike", checkpoint: "checkpoint", "bad-image": "image left out",
};

function eventsHtml(runs: readonly ShownRun[]): string {
  const all = runs.flatMap(({ name, history }) => history.events.map((event) => ({ name, event, perEpoch: history.latest?.stepsPerEpoch ?? 1 })));
  if (all.length === 0) return `<p class="small">Nothing yet: no checkpoint, warning or resumption.</p>`;
  all.sort((a, b) => a.event.step - b.event.step); // stable: a checkpoint comes before what was resumed from it
  // Checkpoints are many and much alike: they give way first.
  const others = all.filter(({ event }) => event.kind !== "checkpoint");
  const room = Math.max(20, mostEvents - others.length);
  const saved = all.filter(({ event }) => event.kind === "checkpoint");
  const kept = new Set([...others.slice(0, mostEvents), ...saved.slice(-room)]);
  const shown = all.filter((each) => kept.has(each));
  const rows = shown.map(({ name, event: { kind, step, text }, perEpoch }) =>
    `<tr class="event ${kind}">${head(whole(step))}${cell(formatNumber(step / Math.max(1, perEpoch), 4))}<td class="text"><span class="what">${eventWords[kind]}</span></td>` +
    `${runs.length > 1 ? `<td class="text">${escapeHtml(name)}</td>` : ""}<td class="text message"><bdi>${escapeLines(text)}</bdi></td></tr>`);
  const left = all.length - shown.length;
  const counts = (Object.keys(eventWords) as RunEvent["kind"][]).map((kind) => [kind, all.filter(({ event }) => event.kind === kind).length] as const)
    .filter(([, count]) => count > 0).map(([kind, count]) => `${eventWords[kind]} ${whole(count)} ×`).join(", ");
  const columns = ["steps done", "epochs", "what", ...(runs.length > 1 ? ["run"] : []), "in words"];
  return `<p>${counts}.${left > 0 ? ` ${whole(left)} of them are not listed.` : ""}</p>${table(columns, rows, "Events", 2)}`;
}

function unreadableHtml(runs: readonly ShownRun[]): string {
  const all = runs.flatMap(({ name, history }) => history.badImages.map((image) => ({ name, ...image })));
  if (all.length === 0) return `<p>None: all images could be read.</p>`;
  const items = all.slice(0, mostUnreadable).map(({ name, path, reason }) =>
    `<li>${runs.length > 1 ? `${escapeHtml(name)}: ` : ""}<bdi>${escapeHtml(path)}</bdi>: ${escapeHtml(reason)}</li>`);
  const more = all.length - items.length;
  return `<p>${whole(all.length)} ${all.length === 1 ? "image was" : "images were"} left out.</p><ul class="files">${items.join("\n")}</ul>` +
    (more > 0 ? `<p>And ${whole(more)} more; log.jsonl names them all.</p>` : "");
}

function aboutHtml(runs: readonly ShownRun[]): string {
  const rows = runs.flatMap(({ name, folder, history }) => {
    const { first, latest, end, resumptions, checkpoints } = history;
    if (first === null || latest === null) return [];
    const prefix = runs.length > 1 ? `${name}: ` : "";
    const date = (iso: string): string => String(iso).slice(0, 16).replace("T", " ") + " UTC";
    const lines: [string, string][] = [
      ["folder", folder], ["begun", date(first.started)], ["resumed", resumptions === 0 ? "never" : `${resumptions} ×, last ${date(latest.started)}`],
      ["device", latest.device], ...Object.entries(latest.versions ?? {}).map(([key, version]): [string, string] => [key, String(version)]),
      ["last checkpoint", checkpoints.at(-1)?.file ?? "none"],
      ["end", end === null ? "not told" : `${end.reason}${end.message === undefined ? "" : `: ${end.message}`}`],
    ];
    return lines.map(([key, value]) => `<tr>${head(`${prefix}${key}`)}<td class="text">${escapeLines(value)}</td></tr>`);
  });
  return rows.length === 0 ? "" : table(["what", ""], rows, "Versions and machine", 1);
}
