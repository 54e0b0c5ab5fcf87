import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ImageSource } from "../imageSource.js";
import { DatasetError } from "./datasetError.js";
import { checkSplit, findDataset, isFolder, itemAt } from "./datasetFolder.js";

const title = "Oxford-IIIT Pet";
const breeds = 37;
const lists = { train: "trainval.txt", test: "test.txt" } as const;

export interface OxfordPetsOptions {
  /** `"train"` is the 3,680 images for training and validation, as upstream has it; `"test"` the other 3,669. Default `"train"`. */
  split?: "train" | "test";
}

interface Pet {
  /** File name without `.jpg`. */
  name: string;
  label: number;
}

/**
 * The Oxford-IIIT Pet data set (Parkhi et al., "Cats and Dogs", CVPR 2012): `annotations/trainval.txt`, `annotations/test.txt` and
 * `images/NAME.jpg`. Labels are the 37 breeds, from 0, in the order of the lists, as upstream's transfer code and torchvision have them.
 *
 * @example
 * const pets = await OxfordPets.open("data/pets", { split: "test" });
 * console.log(pets.classes[pets.label(0)]); // Abyssinian
 */
export class OxfordPets implements ImageSource {
  /** The folder with `images` and `annotations`, absolute. */
  readonly root: string;
  /** Made from the file names: `american_bulldog_100` is an "American Bulldog". */
  readonly classes: readonly string[];
  readonly #pets: readonly Pet[];

  private constructor(root: string, pets: Pet[], classes: string[]) {
    this.root = root;
    this.#pets = pets;
    this.classes = classes;
  }

  /** Whether a folder, or `oxford-iiit-pet` in it, holds this data set. */
  static async recognise(folder: string): Promise<boolean> {
    return (await find(folder)) !== null;
  }

  /**
   * @param folder the one with `images` and `annotations`, or the one that holds it as `oxford-iiit-pet`
   * @throws {DatasetError} when a part is missing or a list is damaged.
   */
  static async open(folder: string, options: OxfordPetsOptions = {}): Promise<OxfordPets> {
    const { split = "train" } = options;
    checkSplit(split, Object.keys(lists), title);
    const root = await find(folder);
    if (root === null) {
      throw new DatasetError(
        `${folder} does not hold the ${title} data set: annotations/trainval.txt or annotations/test.txt is missing; ` +
          "unpack images.tar.gz and annotations.tar.gz into one folder and give that",
      );
    }
    const images = join(root, "images");
    if (!(await isFolder(images))) throw new DatasetError(`${images} is missing; unpack images.tar.gz into ${root}`);
    const list = join(root, "annotations", lists[split]);
    const text = await readFile(list, "utf8").catch((error: Error) => {
      throw new DatasetError(`cannot read ${list}: ${error.message}; unpack annotations.tar.gz again`, { cause: error });
    });
    const pets = text.split(/\r?\n/).flatMap((line, i) => (line.trim() === "" ? [] : [readLine(line, `${list}, line ${i + 1}`)]));
    if (pets.length === 0) throw new DatasetError(`${list} is empty; unpack annotations.tar.gz again`);
    return new OxfordPets(root, pets, classNames(pets, list));
  }

  get length(): number {
    return this.#pets.length;
  }

  /** The file's absolute path. */
  image(index: number): string {
    return join(this.root, this.name(index));
  }

  /** The file's path in the data set's folder. */
  name(index: number): string {
    return `images/${itemAt(this.#pets, index).name}.jpg`;
  }

  label(index: number): number {
    return itemAt(this.#pets, index).label;
  }
}

function find(folder: string): Promise<string | null> {
  return findDataset(folder, "oxford-iiit-pet", Object.values(lists).map((list) => `annotations/${list}`));
}

/** A line is `NAME CLASS SPECIES BREED`, numbers from 1. */
function readLine(line: string, where: string): Pet {
  const [name = "", breed = "", ...rest] = line.trim().split(/\s+/);
  if (rest.length !== 2 || !/^\d+$/.test(breed)) {
    throw new DatasetError(`${where}: expected a name and three numbers; unpack annotations.tar.gz again`);
  }
  const label = Number(breed) - 1;
  if (label < 0 || label >= breeds) {
    throw new DatasetError(`${where}: the class is ${breed}, not 1 to ${breeds}; unpack annotations.tar.gz again`);
  }
  if (/[/\\]/.test(name)) throw new DatasetError(`${where}: the name of the image leads to another folder; unpack the lists again`);
  return { name, label };
}

function classNames(pets: readonly Pet[], list: string): string[] {
  const names = new Map<number, string>();
  for (const { name, label } of pets) {
    const words = name.slice(0, Math.max(0, name.lastIndexOf("_"))).split("_");
    const breed = words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase()).join(" ");
    const known = names.get(label);
    if (known !== undefined && known !== breed) {
      throw new DatasetError(`${list}: class ${label + 1} is "${known}" and "${breed}"; unpack annotations.tar.gz again`);
    }
    names.set(label, breed);
  }
  return Array.from({ length: breeds }, (_, label) => names.get(label) ?? `breed ${label + 1}`);
}
