import { createHash } from "node:crypto";

/** What a report's page is made of. */
export interface HtmlPage {
  title: string;
  /** CSS beyond that of all reports. */
  style: string;
  /** HTML; text in it has gone through `escapeHtml`. */
  body: string;
  /** JavaScript that the page runs; no other is run. Default: none. */
  script?: string;
  /** Whether the script follows what the page's own server tells, and asks nobody else. Default false. */
  live?: boolean;
}

const baseStyle = `
:root { color-scheme: light dark; --paper: light-dark(#f7f7f5, #121316); --card: light-dark(#fff, #1b1d21); --ink: light-dark(#1c1d20, #e9e9ec);
--muted: light-dark(#585c63, #a6aab2); --line: light-dark(#dcdcd8, #383b42); --accent: light-dark(#b4480f, #ff9d5c); --accent2: light-dark(#1d4ed8, #8ab4ff); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink); background: var(--paper); }
table { border-collapse: collapse; } th, td { padding: .35rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } figure { margin: 0; }
`;

/** The policy of a page: it loads nothing, and runs nothing but its own script. */
export function pagePolicy({ script, live = false }: Pick<HtmlPage, "script" | "live">): string {
  const hash = script === undefined ? [] : [`script-src 'sha256-${createHash("sha256").update(script).digest("base64")}'`];
  const rules = ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", ...hash, ...(live ? ["connect-src 'self'"] : [])];
  return [...rules, "base-uri 'none'", "form-action 'none'"].join("; ");
}

/**
 * One self-contained page: it works offline, follows the reader's light or dark colours, and loads nothing, which its policy tells the
 * browser too.
 */
export function htmlPage({ title, style, body, script, live = false }: HtmlPage): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${pagePolicy({ script, live })}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${baseStyle}${style}</style>
</head>
<body${live ? " data-live" : ""}>
${body}
${script === undefined ? "" : `<script>${script}</script>\n`}</body>
</html>
`;
}

/** A value as JSON that can stand in a page without ending its element. */
export function dataElement(id: string, value: unknown): string {
  return `<script type="application/json" id="${id}">${JSON.stringify(value).replaceAll("<", "\\u003c")}</script>`;
}

/** Text for use in the content and the quoted attributes of HTML and SVG. */
export function escapeHtml(text: string): string {
  return plainText(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Text of several lines for use in the content of HTML. */
export function escapeLines(text: string): string {
  return text.split(/\r?\n/).map(escapeHtml).join("<br>");
}

/** Text whose characters can all be seen: XML allows no control characters, and those that turn the writing round would hide a name. */
export function plainText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff]/gu, "\ufffd");
}

/** A share in percent, below ten with a decimal where it has one: `8 %`, `8.3 %`, `27 %`. */
export function percent(fraction: number): string {
  return `${Number((fraction * 100).toFixed(fraction < 0.1 ? 1 : 0))} %`;
}
