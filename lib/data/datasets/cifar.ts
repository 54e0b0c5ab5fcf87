import { join } from "node:path";
import type { DecodedImage } from "../decoding/decodedImage.js";
import type { ImageSource } from "../imageSource.js";
import { cifarBytes, cifarSide, findCifar, type CifarSplit } from "./cifarLayout.js";
import { readBinaryFile, readClassNames, readPickledFile, type CifarRecords } from "./cifarRecords.js";
import { DatasetError } from "./datasetError.js";
import { checkSplit } from "./datasetFolder.js";

export interface CifarOptions {
  /** 50,000 images for training, or 10,000 for testing. Default `"train"`. */
  split?: CifarSplit;
  /** Which of the two to look for, where a folder holds both. Default: the one that is there. */
  title?: Cifar["title"];
  /** Take files with any number of images, such as parts of the published ones. Default false: a file of another size is an error. */
  subset?: boolean;
}

/**
 * CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009), in memory: 32 x 32 pixels each.
 *
 * The binary and the Python version are read, and which of them a folder holds is found out. Images, order, labels (of CIFAR-100 the
 * fine ones) and names of the classes are those of torchvision's `CIFAR10` and `CIFAR100`.
 *
 * @example
 * const images = await Cifar.open("data/cifar-10-batches-bin", { split: "test" });
 * console.log(images.length, images.classes[images.label(0)]); // 10000 cat
 */
export class Cifar implements ImageSource {
  readonly title: "CIFAR-10" | "CIFAR-100";
  /** The folder with the files, absolute. */
  readonly root: string;
  readonly classes: readonly string[];
  readonly length: number;
  readonly #files: readonly (CifarRecords & { name: string; first: number })[];

  private constructor(title: Cifar["title"], root: string, classes: string[], files: (CifarRecords & { name: string })[]) {
    this.title = title;
    this.root = root;
    this.classes = classes;
    let length = 0;
    this.#files = files.map((file) => {
      const first = length;
      length += file.labels.length;
      return { ...file, first };
    });
    this.length = length;
  }

  /** Whether a folder holds CIFAR-10 or CIFAR-100, itself or in the folder to which their archives unpack. */
  static async recognise(folder: string): Promise<boolean> {
    // A folder with both holds CIFAR; opening it says which to choose.
    return (await findCifar(folder).catch(() => true)) !== null;
  }

  /**
   * Reads all images of a split: 150 MB for training.
   *
   * @param folder the one with the files (`cifar-10-batches-bin`, `cifar-100-binary`, `cifar-10-batches-py`, `cifar-100-python`), or the
   *   one that holds it
   * @throws {DatasetError} when there is no CIFAR, a file is missing, of the wrong size or damaged, or a label is outside its range.
   */
  static async open(folder: string, options: CifarOptions = {}): Promise<Cifar> {
    const { split = "train", title, subset = false } = options;
    checkSplit(split, ["train", "test"], "CIFAR");
    const found = await findCifar(folder, title);
    if (!found) {
      const wanted = title ? `does not hold ${title}` : "holds neither CIFAR-10 nor CIFAR-100";
      throw new DatasetError(
        `${folder} ${wanted}; unpack cifar-10-binary.tar.gz or cifar-100-binary.tar.gz there (or the Python version) and give the folder ` +
          "with data_batch_1.bin or train.bin",
      );
    }
    const { layout, root } = found;
    const classes = await readClassNames(join(root, layout.names), layout);
    const read = layout.format === "binary" ? readBinaryFile : readPickledFile;
    const files: (CifarRecords & { name: string })[] = [];
    for (const name of layout.files[split]) {
      files.push({ name, ...(await read(join(root, name), layout, subset ? null : layout.images[split])) });
    }
    return new Cifar(layout.title, root, classes, files);
  }

  /** The pixels, in the memory of the whole: not to be changed. */
  image(index: number): DecodedImage {
    const { pixels, first } = this.#fileOf(index);
    const at = (index - first) * cifarBytes;
    return { data: pixels.subarray(at, at + cifarBytes), width: cifarSide, height: cifarSide };
  }

  /** The file and the number in it. */
  name(index: number): string {
    const { name, first } = this.#fileOf(index);
    return `${name}, image ${index - first}`;
  }

  label(index: number): number {
    const { labels, first } = this.#fileOf(index);
    return labels[index - first]!;
  }

  #fileOf(index: number): CifarRecords & { name: string; first: number } {
    const file = this.#files.findLast(({ first }) => index >= first);
    if (!file || index >= this.length || !Number.isInteger(index)) {
      throw new RangeError(`there is no image ${index}; the data set has ${this.length}`);
    }
    return file;
  }
}
