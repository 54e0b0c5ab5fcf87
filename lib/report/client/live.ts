import type { PageData } from "../run/pageData.js";
import type { LiveUpdate } from "../run/liveUpdate.js";
import type { SampledSteps } from "../run/sampledSteps.js";
import { byId } from "./element.js";

/** Takes over what the server tells of the runs, as long as the page is open; the browser connects again by itself. */
export function followRun(data: PageData, draw: (settled: boolean) => void): void {
  const sign = byId("live");
  const say = (state: "live" | "lost", words: string): void => {
    sign.className = `badge ${state === "live" ? "good" : "bad"}`;
    sign.textContent = words;
  };
  const source = new EventSource("events");
  source.addEventListener("open", () => say("live", "live"));
  source.addEventListener("error", () => say("lost", "no connection, trying again"));
  source.addEventListener("update", (event) => {
    const update = JSON.parse(event.data as string) as LiveUpdate;
    for (const [id, html] of Object.entries(update.parts)) renew(id, html);
    data.charts = update.charts ?? data.charts;
    update.runs.forEach((change, i) => {
      const run = data.runs[i];
      if (run === undefined) return;
      if (change.whole !== undefined) data.runs[i] = change.whole;
      if (change.more !== undefined) append(run.steps, change.more);
      if (change.rest !== undefined) Object.assign(run, change.rest);
    });
    if (update.runs.length > 0 || update.charts !== undefined) draw(true);
  });
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLButtonElement>("button[data-ask]");
    if (button !== null) void ask(button);
  });
}

/** The server has made this HTML, and escaped what is in it. What the reader has opened stays open. */
function renew(id: string, html: string): void {
  const place = byId(`part-${id}`);
  const open = [...place.querySelectorAll("details")].map((each) => each.open);
  place.innerHTML = html;
  place.querySelectorAll("details").forEach((each, i) => (each.open = open[i] ?? each.open));
}

/** New rows behind those that are drawn. Each stands for one step, and is its own mean. */
function append(steps: SampledSteps, more: SampledSteps): void {
  const before = steps.x.length;
  steps.total += more.total;
  steps.x.push(...more.x);
  steps.hours.push(...more.hours);
  const names = new Set([...Object.keys(steps.y), ...Object.keys(more.y)]) as Set<keyof SampledSteps["y"]>;
  for (const name of names) {
    const column = (steps.y[name] ??= Array<null>(before).fill(null));
    const added = more.y[name] ?? more.x.map(() => null);
    column.push(...added);
    steps.mean[name]?.push(...added);
  }
}

/** Asks the server for what the button is for; what comes of it comes as an update. */
async function ask(button: HTMLButtonElement): Promise<void> {
  button.disabled = true;
  try {
    const answer = await fetch(button.dataset.ask!, { method: "POST", headers: { "X-Moco-Report": "1" } });
    if (!answer.ok) throw new Error(await answer.text());
  } catch (error) {
    button.disabled = false;
    button.insertAdjacentText("afterend", ` ${(error as Error).message}`);
  }
}
