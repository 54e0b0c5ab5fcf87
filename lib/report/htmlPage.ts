/** What a report's page is made of. */
export interface HtmlPage {
  title: string;
  /** CSS beyond that of all reports. */
  style: string;
  /** HTML; text in it has gone through `escapeHtml`. */
  body: string;
}

const baseStyle = `
:root { color-scheme: light dark; --accent: light-dark(#b4480f, #ff9d5c); --line: light-dark(#ddd, #444); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .35rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } figure { margin: 0; }
`;

/**
 * One self-contained page: it works offline, follows the reader's light or dark colours, and loads and runs nothing, which its policy
 * tells the browser too.
 */
export function htmlPage({ title, style, body }: HtmlPage): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${baseStyle}${style}</style>
</head>
<body>
${body}
</body>
</html>
`;
}

/** Text for use in the content and the quoted attributes of HTML and SVG. */
export function escapeHtml(text: string): string {
  return plainText(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Text whose characters can all be seen: XML allows no control characters, and those that turn the writing round would hide a name. */
export function plainText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff]/gu, "\ufffd");
}

/** A share in percent, below ten with a decimal where it has one: `8 %`, `8.3 %`, `27 %`. */
export function percent(fraction: number): string {
  return `${Number((fraction * 100).toFixed(fraction < 0.1 ? 1 : 0))} %`;
}
