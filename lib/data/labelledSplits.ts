import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Cifar } from "./datasets/cifar.js";
import { Flowers102 } from "./datasets/flowers102.js";
import { OxfordPets } from "./datasets/oxfordPets.js";
import { LabelledDataError } from "./errors.js";
import { FileList } from "./list/fileList.js";
import { ImageFolder } from "./folder/imageFolder.js";
import { isStream, type ImageSource, type ImageStream } from "./imageSource.js";
import { ShardStream } from "./shards/shardStream.js";
import { openImages, type OpenImagesOptions } from "./openImages.js";

/** Images with labels to learn from, and others to judge by. */
export interface LabelledSplits {
  /** Names of the classes that the labels of both parts count. */
  classes: readonly string[];
  train: ImageSource | ImageStream;
  /** Null where the data set has no such part. */
  val: ImageSource | ImageStream | null;
}

/** Where the images to train on and to judge by come from. */
export interface LabelledSplitsOptions extends Omit<OpenImagesOptions, "split"> {
  /** Images to judge by, where they are not part of the data set. */
  val?: string;
  /** Number of classes, for shards that do not name them; of others at least the number of their names. */
  numClasses?: number;
}

/** What a folder's part for validation may be called, the most wanted first. */
const validationFolders = ["val", "validation", "valid", "test"];

/**
 * Opens a labelled data set: a folder with `train/` and `val/` and a folder for each class in both, CIFAR-10, CIFAR-100, Flowers-102,
 * Oxford-IIIT Pet (which are judged by their test sets), or shards of both splits; or any two kinds, with `val`.
 *
 * @throws {LabelledDataError} when images have no classes, or the classes of both parts are not the same; the errors of `openImages`.
 * @example
 * const { classes, train, val } = await openLabelledSplits("imagenet");
 */
export async function openLabelledSplits(data: string, options: LabelledSplitsOptions = {}): Promise<LabelledSplits> {
  const { val: valPath, numClasses, ...openOptions } = options;
  const train = await openImages(data, openOptions);
  const classes = classesOf(train, data, numClasses);
  const val = valPath === undefined ? await ownValidation(train, data) : await openImages(valPath, { split: "val" });
  if (val !== null) requireSameClasses(classes, classesOf(val, valPath ?? data, numClasses), valPath ?? data);
  return { classes, train, val };
}

/**
 * Whole-number labels, for images that must have them.
 *
 * @throws {LabelledDataError} that names the first image without a label, or with one that is no class
 */
export function requireLabels(labels: readonly (number | null)[], numClasses: number, name: (row: number) => string): number[] {
  return labels.map((label, row) => {
    if (label !== null && label < numClasses) return label;
    const problem = label === null ? "has no label" : `has the label ${label}, and there are ${numClasses} classes, counted from 0`;
    throw new LabelledDataError(`${name(row)} ${problem}; put it into the folder of its class, or correct the list`);
  });
}

function classesOf(images: ImageSource | ImageStream, path: string, numClasses: number | undefined): readonly string[] {
  const { classes = [] } = images;
  if (classes.length > 0) {
    if (numClasses === undefined || numClasses >= classes.length) return classes;
    throw new LabelledDataError(
      `${path} has ${classes.length} classes, more than ${numClasses}; leave the number (--num-classes) out, or give other images`,
    );
  }
  if (isStream(images) && numClasses !== undefined) return Array.from({ length: numClasses }, (_, label) => String(label));
  const remedy = isStream(images)
    ? "say how many classes its labels count (--num-classes)"
    : "give each class a folder of its own, or a list with a label for each image";
  throw new LabelledDataError(`the images of ${path} have no classes: ${remedy}`);
}

async function ownValidation(train: ImageSource | ImageStream, data: string): Promise<ImageSource | ImageStream | null> {
  if (train instanceof Cifar || train instanceof Flowers102 || train instanceof OxfordPets) return openImages(data, { split: "test" });
  if (train instanceof FileList) return null;
  if (train instanceof ImageFolder) {
    const parent = resolve(train.root, "..");
    // A folder of classes, one of which may be called "train", has no parts.
    if (train.root === resolve(data.replace(/^folder:/, ""))) return null;
    for (const name of validationFolders) {
      if ((await stat(join(parent, name)).catch(() => null))?.isDirectory()) return ImageFolder.open(parent, { split: name });
    }
    return null;
  }
  for (const split of ["val", "test"]) {
    const found = await openImages(data, { split }).catch(() => null);
    // Shards that name no splits are the same for every split.
    if (found instanceof ShardStream && !(train instanceof ShardStream && sameShards(train, found))) return found;
  }
  return null;
}

function sameShards(a: ShardStream, b: ShardStream): boolean {
  return a.shards.length === b.shards.length && a.shards.every(({ name }, i) => name === b.shards[i]!.name);
}

/** The labels of both parts must count the same classes: those of torchvision's `ImageFolder` silently would not. */
function requireSameClasses(train: readonly string[], val: readonly string[], path: string): void {
  const lists = [
    ["has no images of", train.filter((name) => !val.includes(name))],
    ["has images of classes that are not trained on:", val.filter((name) => !train.includes(name))],
  ] as const;
  for (const [problem, names] of lists) {
    if (names.length === 0) continue;
    const shown = names.slice(0, 5).join(", ") + (names.length > 5 ? ` and ${names.length - 5} more` : "");
    throw new LabelledDataError(
      `the validation part of ${path} ${problem} ${shown}; both parts need the same classes: add the missing folders, or remove the others`,
    );
  }
  if (train.some((name, label) => val[label] !== name)) {
    throw new LabelledDataError(`the validation part of ${path} numbers its classes in another order; give both parts the same list of classes`);
  }
}
