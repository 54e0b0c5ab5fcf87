import { readFile, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { readConfig } from "../../config.js";
import { ImageFolderError } from "../errors.js";
import { indexOf, keepFolderIndex, readFolderIndex, type FolderIndex } from "./folderIndex.js";
import { imageEndings } from "./imageEndings.js";
import { ImageNames } from "./imageNames.js";
import type { ImageSource } from "../imageSource.js";
import { PackedNumbers } from "./packedNumbers.js";
import { PackedStrings } from "./packedStrings.js";
import { classOf, mangled, scanFolder } from "./scanFolder.js";

export { imageEndings } from "./imageEndings.js";

/** Fewer images are scanned faster than anyone would notice. */
const worthKeeping = 20_000;

/** Which part of a folder is opened, and whether its list is kept. */
export interface ImageFolderOptions {
  /** The subfolder that holds the images when there is one. Default `"train"`. */
  split?: string;
  /**
   * Whether to keep the list of images in the user's cache folder (`MOCO_CACHE`), where the next `open` finds it as long as no folder has
   * changed. Default: for 20,000 images and more, except on file systems in user space, whose folders may have no true times.
   */
  cache?: boolean;
}

/**
 * Images of a folder: with a `train/` inside, with one folder per class, or any nested or flat folder without labels.
 *
 * The order is torchvision's (classes by name, within a class by folder, within a folder by name). Symbolic links are followed. Names take
 * eight bytes an image beside themselves.
 *
 * @example
 * const images = await ImageFolder.open("photos");
 * console.log(images.length, images.classes);
 */
export class ImageFolder implements ImageSource {
  /** The folder that was scanned, absolute: with the split's name when there was one. */
  readonly root: string;
  readonly classes: readonly string[];
  readonly #names: ImageNames;
  /** Each folder's position in `classes`. */
  readonly #labels: readonly number[];

  private constructor(root: string, index: FolderIndex) {
    this.root = root;
    const paths = Array.from({ length: index.folders.length }, (_, i) => index.folders.at(i));
    const filled = paths.filter((_, i) => index.counts[i]! > 0);
    // In the order of the classes: the folders are.
    this.classes = filled.includes("") ? [] : [...new Set(filled.map(classOf))];
    const labels = new Map(this.classes.map((name, label) => [name, label]));
    this.#labels = paths.map((path) => labels.get(classOf(path)) ?? -1);
    const folderOf = new PackedNumbers();
    index.counts.forEach((count, folder) => folderOf.push(folder, count));
    this.#names = new ImageNames(PackedStrings.of(paths.map((path) => (path === "" ? "" : `${path}/`))), index.names, folderOf);
  }

  /**
   * Lists a folder.
   *
   * @throws {ImageFolderError} when it is missing, not a folder, unreadable, or holds no image.
   */
  static async open(folder: string, options: ImageFolderOptions = {}): Promise<ImageFolder> {
    const root = await rootOf(resolve(folder), options.split ?? "train");
    const cache = readConfig().cache;
    const known = options.cache === false ? null : await readFolderIndex(root, cache);
    const index = known ?? (await scanAndKeep(root, cache, options.cache));
    if (index.names.length === 0) {
      throw new ImageFolderError(
        `no images in ${root} or the folders below it; files that end in ${[...imageEndings].join(" ")} count` +
          " (photographs that end in .heic or .raw need to be converted first)",
      );
    }
    return new ImageFolder(root, index);
  }

  get length(): number {
    return this.#names.length;
  }

  /** The path relative to `root`. */
  name(index: number): string {
    this.#check(index);
    return this.#names.path(index);
  }

  /** The absolute path; the file's bytes where the name is not UTF-8, which no text can tell. */
  image(index: number): string | Promise<Uint8Array> {
    this.#check(index);
    const path = join(this.root, this.#names.path(index));
    return path.includes(mangled) ? readFile(Buffer.concat([Buffer.from(join(this.root, sep)), this.#names.pathBytes(index)])) : path;
  }

  /** Index into `classes`; null when images lie directly in the root. */
  label(index: number): number | null {
    this.#check(index);
    const label = this.#labels[this.#names.folder(index)]!;
    return label < 0 ? null : label;
  }

  #check(index: number): void {
    if (!(index >= 0 && index < this.length)) throw new RangeError(`there is no image ${index}; the folder has ${this.length}`);
  }
}

async function rootOf(given: string, split: string): Promise<string> {
  const about = await stat(given).catch((error: NodeJS.ErrnoException) => {
    throw new ImageFolderError(
      error.code === "ENOENT" ? `there is no folder ${given}; check the path` : `cannot read ${given}: ${error.message}`,
      { cause: error },
    );
  });
  if (!about.isDirectory()) throw new ImageFolderError(`${given} is a file; give the folder that holds the images`);
  const inside = join(given, split);
  return (await stat(inside).catch(() => null))?.isDirectory() ? inside : given;
}

async function scanAndKeep(root: string, cache: string, wanted: boolean | undefined): Promise<FolderIndex> {
  const scan = await scanFolder(root);
  const index = indexOf(scan);
  if (wanted ?? index.names.length >= worthKeeping) await keepFolderIndex(root, cache, scan, index, wanted === true);
  return index;
}
