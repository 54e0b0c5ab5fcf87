/** Makes a report's page work: charts, their controls, and, where the page comes from a server, what is new. */
import { sections } from "../run/chartSpecs.js";
import type { Axis } from "../run/chartTable.js";
import type { PageData } from "../run/pageData.js";
import { Chart, type ChartHost } from "./chart.js";
import { byId, element, toggle } from "./element.js";
import { followRun } from "./live.js";
import { readPalette, seriesColours } from "./palette.js";
import type { Settings } from "./settings.js";
import { followTheme } from "./theme.js";

const data = JSON.parse(byId("data").textContent) as PageData;
const settings: Settings = { axis: "steps", smooth: true, marks: true, zoom: null, hiddenRuns: new Set(), palette: readPalette() };
let charts: Chart[] = [];
let builtFor = "";

const host: ChartHost = {
  settings,
  zoom: (range) => {
    settings.zoom = range;
    resetZoom.disabled = range === null;
    for (const chart of charts) chart.rescale();
  },
};

/** @param settled whether only figures are new */
function draw(settled = false): void {
  const wanted = JSON.stringify(data.charts.map(({ id, lines, unit }) => [id, unit, ...lines.map(({ column }) => column)]));
  if (wanted !== builtFor) {
    builtFor = wanted;
    charts = data.charts.map((spec) => new Chart(spec, host));
    for (const { id } of sections) {
      const mine = charts.filter(({ spec }) => spec.section === id);
      byId(`charts-${id}`).replaceChildren(...mine.map(({ card }) => card));
      byId(id).hidden = byId(`to-${id}`).hidden = mine.length === 0;
    }
    for (const id of ["controls", "signs"]) byId(id).hidden = charts.length === 0;
  }
  for (const chart of charts) chart.draw(data.runs, settled);
}

function control(name: string, ...parts: HTMLElement[]): HTMLElement {
  return element("div", { class: "control", role: "group", "aria-label": name }, ...parts);
}

const axes: [Axis, string][] = [["steps", "Steps"], ["epochs", "Epochs"], ["hours", "Hours"]];
const axisButtons = axes.map(([axis, label]) => {
  const button = element("button", { type: "button", class: "toggle", "aria-pressed": String(axis === settings.axis) }, label);
  button.addEventListener("click", () => {
    settings.axis = axis;
    axisButtons.forEach((each, i) => each.setAttribute("aria-pressed", String(axes[i]![0] === axis)));
    host.zoom(null);
    draw();
  });
  return button;
});
const smooth = toggle("Smooth", settings.smooth, (on) => {
  settings.smooth = on;
  draw();
});
const marks = toggle("Events", settings.marks, (on) => {
  settings.marks = on;
  for (const chart of charts) chart.rescale();
});
const resetZoom = element("button", { type: "button", disabled: true }, "Show all");
resetZoom.addEventListener("click", () => host.zoom(null));
const runButtons = data.runs.map(({ name }, i) => {
  const button = toggle([element("span", { class: "key" }), name], true, (shown) => {
    if (shown) settings.hiddenRuns.delete(i);
    else settings.hiddenRuns.add(i);
    draw();
  });
  button.style.setProperty("--key", `var(--series${(i % seriesColours) + 1})`);
  return button;
});
byId("controls").append(
  ...(data.runs.length > 1 ? [control("Runs", ...runButtons)] : []),
  control("Horizontal axis", ...axisButtons), control("Charts", smooth, marks, resetZoom),
);

draw();
followTheme(byId("theme") as HTMLButtonElement, () => {
  settings.palette = readPalette();
  draw();
});
if (document.body.dataset.live !== undefined) followRun(data, draw);
