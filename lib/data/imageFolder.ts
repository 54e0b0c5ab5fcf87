import { opendir, readFile, realpath, stat } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { ImageFolderError } from "./errors.js";
import type { ImageSource } from "./imageSource.js";

/** File name endings that count as images, in lower case; names are compared without regard to case. */
export const imageEndings: ReadonlySet<string> = new Set([
  ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif",
]);

export interface ImageFolderOptions {
  /** The subfolder that holds the images when there is one. Default `"train"`. */
  split?: string;
}

interface Sample {
  /** Relative to the root. */
  path: string;
  label: number | null;
}

/** Order of Python's strings: by code point. JavaScript's `<` compares UTF-16 units, which differs beyond U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x === y) continue;
    const xWide = x >= 0xd800 && x <= 0xdfff, yWide = y >= 0xd800 && y <= 0xdfff;
    return xWide === yWide ? x - y : xWide ? 1 : -1;
  }
  return a.length - b.length;
}

/**
 * Images of a folder: with a `train/` inside, with one folder per class, or any nested or flat folder without labels.
 *
 * The order is torchvision's (classes by name, within a class by folder, within a folder by name). Symbolic links are followed.
 *
 * @example
 * const images = await ImageFolder.open("photos");
 * console.log(images.length, images.classes);
 */
export class ImageFolder implements ImageSource {
  /** The folder that was scanned, absolute: with the split's name when there was one. */
  readonly root: string;
  readonly classes: readonly string[];
  readonly #samples: readonly Sample[];

  private constructor(root: string, classes: string[], samples: Sample[]) {
    this.root = root;
    this.classes = classes;
    this.#samples = samples;
  }

  /**
   * Scans a folder.
   *
   * @throws {ImageFolderError} when it is missing, not a folder, unreadable, or holds no image.
   */
  static async open(folder: string, options: ImageFolderOptions = {}): Promise<ImageFolder> {
    const given = resolve(folder);
    const about = await stat(given).catch((error: NodeJS.ErrnoException) => {
      throw new ImageFolderError(
        error.code === "ENOENT" ? `there is no folder ${given}; check the path` : `cannot read ${given}: ${error.message}`,
        { cause: error },
      );
    });
    if (!about.isDirectory()) throw new ImageFolderError(`${given} is a file; give the folder that holds the images`);
    const split = join(given, options.split ?? "train");
    const root = (await stat(split).catch(() => null))?.isDirectory() ? split : given;

    const found = new Map<string, string[]>();
    await scan(root, "", [], found);
    const flat = found.has("");
    const folders = [...found.keys()].sort(compareCodePoints);
    const classOf = (path: string): string => path.split("/", 1)[0]!;
    const classes = flat ? [] : [...new Set(folders.map(classOf))].sort(compareCodePoints);
    const labels = new Map(classes.map((name, label) => [name, label]));
    // By class first: as whole paths, "a b/x" would come before "a/x".
    if (!flat) folders.sort((a, b) => compareCodePoints(classOf(a), classOf(b)) || compareCodePoints(a, b));
    const samples = folders.flatMap((path) =>
      found.get(path)!.sort(compareCodePoints).map((name) => ({
        path: path === "" ? name : `${path}/${name}`,
        label: labels.get(classOf(path)) ?? null,
      })),
    );
    if (samples.length === 0) {
      throw new ImageFolderError(
        `no images in ${root} or the folders below it; files that end in ${[...imageEndings].join(" ")} count`,
      );
    }
    return new ImageFolder(root, classes, samples);
  }

  get length(): number {
    return this.#samples.length;
  }

  /** The path relative to `root`. */
  name(index: number): string {
    return this.#sample(index).path;
  }

  /** The absolute path. */
  path(index: number): string {
    return join(this.root, this.#sample(index).path);
  }

  /** Index into `classes`; null when images lie directly in the root. */
  label(index: number): number | null {
    return this.#sample(index).label;
  }

  /** The file's bytes. */
  read(index: number): Promise<Uint8Array> {
    return readFile(this.path(index));
  }

  #sample(index: number): Sample {
    const sample = this.#samples[index];
    if (!sample) throw new RangeError(`there is no image ${index}; the folder has ${this.length}`);
    return sample;
  }
}

function isImage(name: string): boolean {
  const dot = name.lastIndexOf(".");
  return dot >= 0 && imageEndings.has(name.slice(dot).toLowerCase());
}

/**
 * Collects the image names of a folder and all below it, by folder relative to the root.
 *
 * @param above real paths of the folders that contain this one, so that a link to one of them does not go round for ever
 */
async function scan(root: string, path: string, above: readonly string[], found: Map<string, string[]>): Promise<void> {
  const folder = join(root, path);
  const images: string[] = [];
  const folders: string[] = [];
  try {
    const real = await realpath(folder);
    if (above.includes(real)) return;
    above = [...above, real];
    for await (const entry of await opendir(folder, { bufferSize: 256 })) {
      // A broken link named like an image stays in the list: reading it says what is wrong.
      const directory = entry.isSymbolicLink()
        ? ((await stat(join(folder, entry.name)).catch(() => null))?.isDirectory() ?? false)
        : entry.isDirectory();
      if (directory) folders.push(entry.name);
      else if (isImage(entry.name)) images.push(entry.name);
    }
  } catch (error) {
    const where = relative(root, folder) === "" ? root : folder;
    throw new ImageFolderError(
      `cannot read the folder ${where}: ${(error as Error).message}; make it readable or move it out of ${root}`, { cause: error },
    );
  }
  if (images.length > 0) found.set(path, images);
  for (let i = 0; i < folders.length; i += 16) {
    await Promise.all(folders.slice(i, i + 16).map((name) => scan(root, path === "" ? name : `${path}/${name}`, above, found)));
  }
}
