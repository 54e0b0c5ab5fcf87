import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { FileListError } from "../errors.js";
import { ImageNames } from "../folder/imageNames.js";
import type { ImageSource } from "../imageSource.js";
import { LabelColumn, noLabel } from "./labelColumn.js";
import { lineReader } from "./listLine.js";
import { PackedNumbers } from "../folder/packedNumbers.js";
import { PackedStrings } from "../folder/packedStrings.js";
import { TextLineError, textLines } from "./textLines.js";

/** Folders remembered while reading, so that each is stored once; a list in random order with more of them stores some again. */
const maxFolders = 1 << 16;
/** Paths that are looked up on opening: if none is there, relative paths start elsewhere. */
const lookedUp = 16;

export interface FileListOptions {
  /** The folder that relative paths start from. Default: the one of the list. */
  root?: string;
}

/**
 * Images named in a text file, one a line, in its order.
 *
 * - `.csv` and `.tsv`: a table. If the first line names a column `path`, `file`, `file_name`, `image` or the like, the paths are there, and
 *   the labels in one named `label`, `class`, `target` or the like; other columns are passed over. Without such a line, the first column
 *   has the paths and the second, if any, the labels. A `.csv` may have quotes, within which spaces count and `""` is a quote.
 * - Every other name: `path`, or `path TAB label`, or `path label` with one or more spaces before a whole number, as in lists for Caffe.
 *   All lines must be of one of the three forms. The path in the third must end as image files do, as `holiday 7` might be a path.
 *
 * In all of them: paths are absolute or start from the list's folder; slashes divide folders. Spaces around a path are not part of it.
 * Blank lines and those that begin with `#` are passed over. Text is UTF-8, with or without a byte order mark; lines end in `\n` or
 * `\r\n`. Labels are all whole numbers from 0, or all names, which are numbered in the order of code points; an empty one is no label.
 *
 * The list is read as a stream and kept in about twelve bytes an image beside the file's own name.
 *
 * @example
 * const images = await FileList.open("val.txt", { root: "/data/imagenet/val" });
 * console.log(images.length, images.name(0), images.label(0));
 */
export class FileList implements ImageSource {
  /** The folder that relative paths start from, absolute. */
  readonly root: string;
  /** Names of the classes: those of the list, or `"0"` to the greatest number. */
  readonly classes: readonly string[];
  readonly #names: ImageNames;
  readonly #labels: PackedNumbers | null;

  private constructor(root: string, names: ImageNames, labels: LabelColumn) {
    this.root = root;
    this.#names = names;
    this.classes = labels.classes;
    this.#labels = labels.classes.length > 0 ? labels.numbers : null;
  }

  /**
   * Reads a list.
   *
   * @throws {FileListError} naming the file and line, when it is missing, ambiguous or empty, or when its paths lead nowhere.
   */
  static async open(file: string, options: FileListOptions = {}): Promise<FileList> {
    const path = resolve(file);
    const { names, labels } = await readList(path).catch((error: NodeJS.ErrnoException | TextLineError) => {
      if (error instanceof TextLineError) throw new FileListError(`${path}: line ${error.line} ${error.message}`, { cause: error });
      throw new FileListError(
        error.code === "ENOENT" ? `there is no file ${path}; check the path` : `cannot read ${path}: ${error.message}`, { cause: error },
      );
    });
    if (names.length === 0) throw new FileListError(`${path} names no images; write one path a line`);
    const list = new FileList(resolve(options.root ?? dirname(path)), names, labels);
    await list.#lookUp(path);
    return list;
  }

  get length(): number {
    return this.#names.length;
  }

  /** The path as the list has it. */
  name(index: number): string {
    this.#check(index);
    return this.#names.path(index);
  }

  /** The absolute path. */
  image(index: number): string {
    return resolve(this.root, this.name(index));
  }

  /** Index into `classes`, or null. */
  label(index: number): number | null {
    this.#check(index);
    const label = this.#labels?.at(index) ?? noLabel;
    return label === noLabel ? null : label;
  }

  #check(index: number): void {
    if (!(index >= 0 && index < this.length)) throw new RangeError(`there is no image ${index}; the list has ${this.length}`);
  }

  async #lookUp(list: string): Promise<void> {
    const count = Math.min(this.length, lookedUp);
    const paths = Array.from({ length: count }, (_, i) => this.image(Math.floor((i * this.length) / count)));
    if ((await Promise.all(paths.map((path) => stat(path).catch(() => null)))).some(Boolean)) return;
    throw new FileListError(
      `${list}: none of ${count} files looked for is there, such as ${paths[0]}; ` +
        `relative paths start from ${this.root}: move the list, or make its paths absolute`,
    );
  }
}

async function readList(file: string): Promise<{ names: ImageNames; labels: LabelColumn }> {
  const read = lineReader(file);
  const folders = PackedStrings.empty(), names = PackedStrings.empty(), folderOf = new PackedNumbers();
  const labels = new LabelColumn();
  const known = new Map<string, number>();
  let number = 0;
  for await (const lines of textLines(file)) {
    const found: string[] = [];
    for (const line of lines) {
      const said = read(line, ++number);
      if (!said) continue;
      const nameAt = said.path.lastIndexOf("/") + 1;
      if (nameAt === said.path.length) throw new TextLineError(number, said.path ? `names the folder ${said.path}` : "has no path");
      const folder = said.path.slice(0, nameAt);
      let place = known.get(folder);
      if (place === undefined) {
        place = folders.length;
        folders.push([folder]);
        if (known.size === maxFolders) known.clear();
        known.set(folder, place);
      }
      folderOf.push(place);
      labels.push(said.label, number);
      found.push(said.path.slice(nameAt));
    }
    names.push(found);
  }
  labels.finish();
  return { names: new ImageNames(folders, names, folderOf), labels };
}
