import type { Figure } from "../figure.js";
import { escapeHtml, htmlPage } from "../htmlPage.js";

const style = `
section { margin: 2.5rem 0; } h2 { margin: 0 0 .3rem; } section > p { color: var(--muted); margin: 0 0 1rem; max-width: 46rem; }
`;

/** Figures as one self-contained page. */
export function figurePage({ title, lead, figures }: { title: string; lead: string; figures: readonly Figure[] }): string {
  const sections = figures.map((figure) =>
    `<section id="${figure.id}"><h2>${escapeHtml(figure.title)}</h2><p>${escapeHtml(figure.caption)}</p>\n${figure.body}</section>`);
  return htmlPage({ title, style, body: `<h1>${escapeHtml(title)}</h1>\n<p>${escapeHtml(lead)}</p>\n${sections.join("\n")}` });
}
