import { extname } from "node:path";
import { isImageName } from "../folder/imageEndings.js";
import { TextLineError } from "./textLines.js";

/** What one line of a list says. An empty label is `null`. */
export interface ListLine {
  path: string;
  label: string | null;
}

/** Takes the lines one by one, from the first; `null` for one that says nothing: blank, a comment or the header. */
export type LineReader = (line: string, number: number) => ListLine | null;

const pathColumns = new Set(["path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path"]);
const labelColumns = new Set(["label", "class", "target", "category", "class_name", "label_name", "class_id", "label_id"]);

/** What reads a list, by the ending of its name. */
export function lineReader(file: string): LineReader {
  const ending = extname(file).toLowerCase();
  const read = ending === ".csv" ? tableReader(csvCells) : ending === ".tsv" ? tableReader(tabCells) : plainReader();
  return (line, number) => (/^ *(#|$)/.test(line) ? null : read(line, number));
}

/** Paths alone, `path TAB label`, or `path label` with a number: the first line says which, and all others must be like it. */
function plainReader(): LineReader {
  type Layout = "a path" | "a path, a tab and a label" | "a path, a space and a number";
  let first: { layout: Layout; number: number } | null = null;
  return (line, number) => {
    const tabbed = line.split("\t");
    const spaced = /^ *(.*\S) +(-?\d+) *$/.exec(line);
    const layout: Layout = tabbed.length > 1 ? "a path, a tab and a label" : spaced ? "a path, a space and a number" : "a path";
    first ??= { layout, number };
    if (layout !== first.layout) {
      throw new TextLineError(number, `has ${layout}, but line ${first.number} has ${first.layout}; write all lines alike`);
    }
    if (tabbed.length > 2) {
      throw new TextLineError(
        number, `has ${tabbed.length - 1} tabs; one stands between the path and the label. Name the file .tsv if it is a table`,
      );
    }
    if (tabbed.length === 2) return { path: trim(tabbed[0]!), label: trim(tabbed[1]!) || null };
    if (!spaced) return { path: trim(line), label: null };
    const [, path, label] = spaced as unknown as [string, string, string];
    if (!isImageName(path)) {
      throw new TextLineError(
        number,
        `may be a path that ends in " ${label}", or "${path}" with the label ${label}; write a tab before a label, or use a .csv file`,
      );
    }
    return { path, label };
  };
}

/** A table with a column of paths, and one of labels if there are any. */
function tableReader(cells: (line: string, number: number) => string[]): LineReader {
  let columns: { path: number; label: number; count: number } | null = null;
  return (line, number) => {
    const row = cells(line, number);
    if (!columns) {
      const named = row.map((cell) => cell.toLowerCase());
      const path = only(named, pathColumns, number);
      columns = { path: Math.max(path, 0), label: path < 0 ? 1 : only(named, labelColumns, number), count: row.length };
      if (path >= 0) return null;
      if (row.length > 2) {
        throw new TextLineError(
          number, `has ${row.length} columns and no header; begin with a line that names them, such as path and label`,
        );
      }
    }
    if (row.length !== columns.count) {
      throw new TextLineError(number, `has ${row.length} columns where the first line has ${columns.count}`);
    }
    return { path: row[columns.path]!, label: row[columns.label] || null };
  };
}

/** The one column with one of the names; -1 without any. */
function only(columns: readonly string[], names: ReadonlySet<string>, line: number): number {
  const found = columns.filter((column) => names.has(column));
  if (found.length > 1) throw new TextLineError(line, `names ${found.join(" and ")}, which may mean the same; rename all but one`);
  return found.length === 0 ? -1 : columns.indexOf(found[0]!);
}

function tabCells(line: string): string[] {
  return line.split("\t").map(trim);
}

/** Cells of a line with commas; quotes as in RFC 4180, but no line break within them. */
function csvCells(line: string, number: number): string[] {
  if (!line.includes('"')) return line.split(",").map(trim);
  const cells: string[] = [];
  const cell = / *(?:"((?:[^"]|"")*)"|([^",]*)) *(,|$)/y;
  for (let separator = ","; separator === ",";) {
    const match = cell.exec(line);
    if (!match) throw new TextLineError(number, "has a quote that does not open or close a cell");
    cells.push(match[1]?.replaceAll('""', '"') ?? trim(match[2]!));
    separator = match[3]!;
  }
  return cells;
}

function trim(text: string): string {
  return text.replace(/^ +| +$/g, "");
}
