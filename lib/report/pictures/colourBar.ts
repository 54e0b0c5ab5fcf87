import { escapeHtml } from "../htmlPage.js";
import { scaleText, type Colour, type ColourScale } from "./colourScale.js";

/** The numbers below a bar: both ends and the middle. */
export function barNumbers({ from, to }: ColourScale): [string, string, string] {
  return [scaleText(from), scaleText((from + to) / 2), scaleText(to)];
}

export function cssColour([red, green, blue]: Colour): string {
  return `rgb(${red} ${green} ${blue})`;
}

/** A colour scale as HTML: a bar with its numbers and what they are. */
export function colourBar(scale: ColourScale): string {
  const gradient = `linear-gradient(to right, ${scale.stops.map(cssColour).join(", ")})`;
  const numbers = barNumbers(scale).map((text) => `<span>${escapeHtml(text)}</span>`).join("");
  return `<div style="max-width:20rem;margin-top:.7rem;font-size:.8rem">
<div style="height:.7rem;background:${gradient};border:1px solid var(--line)"></div>
<div style="display:flex;justify-content:space-between">${numbers}</div>
<div style="color:var(--muted)">${escapeHtml(scale.label)}</div></div>`;
}
