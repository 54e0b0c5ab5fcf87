import { join, resolve } from "node:path";
import { DatasetError } from "./datasetError.js";
import { isFile } from "./datasetFolder.js";

/** Height and width of an image, and its bytes: 1024 red ones, then the green, then the blue. */
export const cifarSide = 32;
export const cifarBytes = 3 * cifarSide * cifarSide;

export type CifarSplit = "train" | "test";

/** One of the four forms in which CIFAR is published. */
export interface CifarLayout {
  readonly title: "CIFAR-10" | "CIFAR-100";
  readonly format: "binary" | "pickle";
  /** As it is downloaded, and the folder that it unpacks to. */
  readonly archive: string;
  readonly folder: string;
  /** Of each group at least one file is there. */
  readonly marks: readonly (readonly string[])[];
  readonly files: Readonly<Record<CifarSplit, readonly string[]>>;
  /** Images in each file. */
  readonly images: Readonly<Record<CifarSplit, number>>;
  /** The file with the names of the classes, and their key in a pickled one. */
  readonly names: string;
  readonly namesKey: string;
  /** Where pickled files keep the labels. */
  readonly labelsKey: string;
  readonly classes: number;
  /** Superclasses, whose label comes before that of the class; 0 where there are none. */
  readonly superclasses: number;
}

const batches = (ending: string): string[] => [1, 2, 3, 4, 5].map((number) => `data_batch_${number}${ending}`);
const ten = { title: "CIFAR-10", images: { train: 10_000, test: 10_000 }, classes: 10, superclasses: 0, namesKey: "label_names" } as const;
const hundred = {
  title: "CIFAR-100", images: { train: 50_000, test: 10_000 }, classes: 100, superclasses: 20, namesKey: "fine_label_names",
} as const;

const layouts: readonly CifarLayout[] = [
  {
    ...ten, format: "binary", archive: "cifar-10-binary.tar.gz", folder: "cifar-10-batches-bin",
    marks: [["data_batch_1.bin", "test_batch.bin"]],
    files: { train: batches(".bin"), test: ["test_batch.bin"] }, names: "batches.meta.txt", labelsKey: "",
  },
  {
    ...hundred, format: "binary", archive: "cifar-100-binary.tar.gz", folder: "cifar-100-binary", marks: [["train.bin", "test.bin"]],
    files: { train: ["train.bin"], test: ["test.bin"] }, names: "fine_label_names.txt", labelsKey: "",
  },
  {
    ...ten, format: "pickle", archive: "cifar-10-python.tar.gz", folder: "cifar-10-batches-py", marks: [["data_batch_1", "test_batch"]],
    files: { train: batches(""), test: ["test_batch"] }, names: "batches.meta", labelsKey: "labels",
  },
  {
    ...hundred, format: "pickle", archive: "cifar-100-python.tar.gz", folder: "cifar-100-python", marks: [["train", "test"], ["meta"]],
    files: { train: ["train"], test: ["test"] }, names: "meta", labelsKey: "fine_labels",
  },
];

/**
 * The form of CIFAR that a folder holds, itself or in the folder to which the archive unpacks, and where. Of two forms of the same data
 * set the binary one is taken.
 *
 * @param title which of the two to look for; by default either
 * @throws {DatasetError} when it holds both CIFAR-10 and CIFAR-100.
 */
export async function findCifar(folder: string, title?: CifarLayout["title"]): Promise<{ layout: CifarLayout; root: string } | null> {
  for (const place of [(): string => resolve(folder), ({ folder: inner }: CifarLayout): string => resolve(folder, inner)]) {
    const found: { layout: CifarLayout; root: string }[] = [];
    for (const layout of layouts.filter((known) => title === undefined || known.title === title)) {
      const root = place(layout);
      const groups = await Promise.all(layout.marks.map((names) => Promise.all(names.map((name) => isFile(join(root, name))))));
      if (groups.every((group) => group.includes(true))) found.push({ layout, root });
    }
    const [first] = found;
    if (!first) continue;
    const other = found.find(({ layout }) => layout.title !== first.layout.title);
    if (!other) return first;
    const [one, two] = [first, other].map(({ layout }) => `${layout.title} (${layout.folder})`);
    throw new DatasetError(`${folder} holds ${one} and ${two}; give the folder of one of them`);
  }
  return null;
}
