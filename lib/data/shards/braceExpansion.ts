import { DataOptionError } from "../errors.js";

const largestExpansion = 1_000_000;

/**
 * Expands braces as bash and WebDataset do: `{000..012}`, `{a..e}`, `{1..9..2}`, `{train,val}`, also several and nested. Zeros in front
 * set the width. Braces without a comma or a range stay as they are; a backslash before `{`, `}`, `,` or `\` takes its meaning away.
 *
 * @throws {DataOptionError} when braces are not closed, or there are more than a million results.
 * @example
 * expandBraces("train-{000..002}.tar"); // ["train-000.tar", "train-001.tar", "train-002.tar"]
 */
export function expandBraces(pattern: string): string[] {
  return expand(pattern, pattern).map((text) => text.replace(/\\([{},\\])/g, "$1"));
}

function expand(text: string, whole: string): string[] {
  let results = [""];
  const append = (tails: readonly string[]): void => {
    if (results.length * tails.length > largestExpansion) {
      throw new DataOptionError(`${whole} stands for more than ${largestExpansion} shards; check its ranges`);
    }
    results = results.length === 1 ? tails.map((tail) => results[0]! + tail) : results.flatMap((head) => tails.map((tail) => head + tail));
  };
  for (const part of topLevel(text, whole)) {
    if (!part.braces) append([part.text]);
    else {
      const items = range(part.text, whole) ?? sequence(part.text, whole);
      append(items ?? expand(part.text, whole).map((inside) => `{${inside}}`));
    }
  }
  return results;
}

/** Divides a text into what stands outside of braces and what inside of the outermost. */
function topLevel(text: string, whole: string): { text: string; braces: boolean }[] {
  const parts: { text: string; braces: boolean }[] = [];
  let start = 0, depth = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "{" && depth++ === 0) {
      if (i > start) parts.push({ text: text.slice(start, i), braces: false });
      start = i + 1;
    } else if (text[i] === "}" && --depth === 0) {
      parts.push({ text: text.slice(start, i), braces: true });
      start = i + 1;
    }
    if (depth < 0) break;
  }
  if (depth !== 0) throw new DataOptionError(`the braces in ${whole} do not close; write \\{ or \\} for a brace that is meant as such`);
  if (start < text.length) parts.push({ text: text.slice(start), braces: false });
  return parts;
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

function range(text: string, whole: string): string[] | null {
  const match = /^(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.-?(\d+))?$/.exec(text);
  if (!match) return null;
  const [, first = "", last = ""] = match;
  const step = Number(match[3] ?? 1) || 1;
  const ofLetters = letters.includes(first);
  if (ofLetters !== letters.includes(last)) return null;
  const from = ofLetters ? letters.indexOf(first) : Number(first);
  const to = ofLetters ? letters.indexOf(last) : Number(last);
  const count = Math.floor(Math.abs(to - from) / step) + 1;
  if (count > largestExpansion) throw new DataOptionError(`{${text}} in ${whole} stands for ${count} shards; at most ${largestExpansion}`);
  const width = [first, last].some((bound) => /^-?0\d/.test(bound)) ? Math.max(first.length, last.length) : 0;
  return Array.from({ length: count }, (_, i) => {
    const value = from + (from <= to ? i : -i) * step;
    if (ofLetters) return letters[value]!;
    return value < 0 ? `-${String(-value).padStart(width - 1, "0")}` : String(value).padStart(width, "0");
  });
}

/** What commas divide; null where there is none. */
function sequence(text: string, whole: string): string[] | null {
  const items: string[] = [];
  let start = 0, depth = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "{") depth++;
    else if (text[i] === "}") depth--;
    else if (text[i] === "," && depth === 0) {
      items.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (items.length === 0) return null;
  return [...items, text.slice(start)].flatMap((item) => expand(item, whole));
}
