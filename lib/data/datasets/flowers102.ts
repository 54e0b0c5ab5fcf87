import { join } from "node:path";
import type { ImageSource } from "../imageSource.js";
import { MatFileError, readMatFile } from "./matFile.js";
import { DatasetError } from "./datasetError.js";
import { checkSplit, findDataset, isFolder, itemAt } from "./datasetFolder.js";
import { flowerNames } from "./flowerNames.js";

const title = "Oxford Flowers 102";
const labelFile = "imagelabels.mat";
const splitFile = "setid.mat";

/** The lists in `setid.mat` that make up each split. */
const lists = { train: ["trnid", "valid"], test: ["tstid"], trnid: ["trnid"], valid: ["valid"] } as const;

export interface Flowers102Options {
  /**
   * `"train"` is the 1,020 images for training and then the 1,020 for validation, as upstream trains on them; `"test"` the other 6,149.
   * `"trnid"` and `"valid"` are the two parts of `"train"`, under the names that `setid.mat` gives them. Default `"train"`.
   */
  split?: keyof typeof lists;
}

/**
 * The Oxford Flowers 102 data set (Nilsback and Zisserman, ICVGIP 2008): `jpg/image_00001.jpg` and so on, `imagelabels.mat` and
 * `setid.mat`. Labels count from 0. Order and labels are those of upstream's transfer code.
 *
 * @example
 * const flowers = await Flowers102.open("data/flowers", { split: "test" });
 * console.log(flowers.length); // 6149
 */
export class Flowers102 implements ImageSource {
  /** The folder with `jpg` and the two files, absolute. */
  readonly root: string;
  readonly classes = flowerNames;
  /** Numbers of the images, from 1. */
  readonly #ids: readonly number[];
  /** Of all images, by number less 1. */
  readonly #labels: readonly number[];

  private constructor(root: string, ids: number[], labels: number[]) {
    this.root = root;
    this.#ids = ids;
    this.#labels = labels;
  }

  /** Whether a folder, or `flowers-102` in it, holds this data set. */
  static async recognise(folder: string): Promise<boolean> {
    return (await find(folder)) !== null;
  }

  /**
   * @param folder the one with `jpg`, `imagelabels.mat` and `setid.mat`, or the one that holds it as `flowers-102`
   * @throws {DatasetError} when a part is missing or damaged.
   */
  static async open(folder: string, options: Flowers102Options = {}): Promise<Flowers102> {
    const { split = "train" } = options;
    checkSplit(split, Object.keys(lists), title);
    const root = await find(folder);
    if (root === null) {
      throw new DatasetError(
        `${folder} does not hold the ${title} data set: ${labelFile} or ${splitFile} is missing; ` +
          "download both into the folder in which 102flowers.tgz is unpacked and give that folder",
      );
    }
    if (!(await isFolder(join(root, "jpg")))) throw new DatasetError(`${join(root, "jpg")} is missing; unpack 102flowers.tgz into ${root}`);
    const labels = (await readNumbers(join(root, labelFile), ["labels"], flowerNames.length)).map((label) => label - 1);
    return new Flowers102(root, await readNumbers(join(root, splitFile), lists[split], labels.length), labels);
  }

  get length(): number {
    return this.#ids.length;
  }

  /** The file's absolute path. */
  image(index: number): string {
    return join(this.root, this.name(index));
  }

  /** The file's path in the data set's folder. */
  name(index: number): string {
    return `jpg/image_${String(itemAt(this.#ids, index)).padStart(5, "0")}.jpg`;
  }

  label(index: number): number {
    return this.#labels[itemAt(this.#ids, index) - 1]!;
  }
}

function find(folder: string): Promise<string | null> {
  return findDataset(folder, "flowers-102", [labelFile, splitFile]);
}

/** The variables of a MAT-file one after another, which hold whole numbers from 1 to `largest`. */
async function readNumbers(file: string, names: readonly string[], largest: number): Promise<number[]> {
  const variables = await readMatFile(file).catch((error: unknown) => {
    throw error instanceof MatFileError ? new DatasetError(error.message, { cause: error }) : error;
  });
  return names.flatMap((name) => {
    const variable = variables.get(name);
    if (!variable || variable.values.length === 0) {
      throw new DatasetError(`${file} has no numbers called ${name}; download ${title}'s file of this name again`);
    }
    const wrong = variable.values.find((value) => !(Number.isInteger(value) && value >= 1 && value <= largest));
    if (wrong !== undefined) {
      throw new DatasetError(`${file}: ${name} has ${wrong}, not a whole number from 1 to ${largest}; download the file again`);
    }
    return [...variable.values];
  });
}
