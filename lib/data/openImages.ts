import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { Cifar } from "./datasets/cifar.js";
import { Flowers102 } from "./datasets/flowers102.js";
import { OxfordPets } from "./datasets/oxfordPets.js";
import { ImageFolderError, UnknownDataError } from "./errors.js";
import { FileList } from "./list/fileList.js";
import { ImageFolder } from "./folder/imageFolder.js";
import { isImageName } from "./folder/imageEndings.js";
import type { ImageSource, ImageStream } from "./imageSource.js";
import { findShards } from "./shards/shardFolder.js";
import { ParquetImages } from "./shards/parquetImages.js";
import { tarEndings, WebDataset } from "./shards/webDataset.js";

/** What {@link openImages} cannot see in the path itself. */
export interface OpenImagesOptions {
  /** Which part of the data set, where it has several. Default `"train"`. Lists and named shards have one part. */
  split?: string;
  /** Images in all, for shards that do not know: commands and compressed files. */
  length?: number;
  /** Samples in the shuffle buffer, for shards. Default 1000. */
  shuffleBuffer?: number;
}

type Images = ImageSource | ImageStream;
type Opener = (path: string, options: OpenImagesOptions) => Promise<Images>;

/** What a prefix such as `list:` before a path means. */
const openers = new Map<string, Opener>(Object.entries({
  folder: openFolderOfImages,
  list: (path) => FileList.open(path),
  tar: (path, options) => WebDataset.open(path, shardOptions(options)),
  parquet: (path, options) => ParquetImages.open(path, shardOptions(options)),
  cifar10: (path, options) => openCifar("CIFAR-10", path, options),
  cifar100: (path, options) => openCifar("CIFAR-100", path, options),
  flowers: (path, options) => Flowers102.open(path, ownSplit(options)),
  pets: (path, options) => OxfordPets.open(path, ownSplit(options)),
} satisfies Record<string, Opener>));

const listEndings = [".txt", ".lst", ".csv", ".tsv"];

/** What can be given as images, for messages. */
const imageForms = `Images can be:
  DIR                          a folder of images, with one folder per class or without classes, also within DIR/train;
                               or one that holds CIFAR-10, CIFAR-100, Flowers-102, Oxford-IIIT Pet, or tar or Parquet files
  FILE.txt, .lst, .csv, .tsv   a list of image files
  'NAME-{000..099}.tar'        tar shards (WebDataset), also .tar.gz and pipe:COMMAND
  FILE.parquet                 Parquet files with image bytes
A prefix says what it is where the name does not: ${[...openers.keys()].map((kind) => `${kind}:`).join(" ")}`;

/**
 * Opens images of any kind: recognises a folder by what is in it and a file by its ending; a prefix such as `list:`, `tar:` or `cifar10:`
 * takes precedence. `imageForms` lists what is known.
 *
 * @param given a path, or several files of shards
 * @throws {UnknownDataError} for something that is none of the known kinds, with a list of them.
 * @throws the errors of the kind that was recognised, such as `ImageFolderError`, `FileListError` or `ShardError`.
 * @example
 * const photos = await openImages("photos");
 * const shards = await openImages("shards/train-{000..146}.tar", { shuffleBuffer: 5000 });
 */
export async function openImages(given: string | readonly string[], options: OpenImagesOptions = {}): Promise<Images> {
  if (typeof given === "string") return openOne(given, options);
  if (given.length === 1) return openOne(given[0]!, options);
  const kinds = new Set(given.map(shardKind));
  const [kind] = kinds;
  if (kinds.size !== 1 || !kind) throw new UnknownDataError(`several paths must all be tar shards or all be Parquet files\n${imageForms}`);
  return openShards(kind, given, options);
}

async function openOne(given: string, options: OpenImagesOptions): Promise<Images> {
  const [, prefix, path] = /^(\w+):(.+)$/s.exec(given) ?? [];
  const forced = openers.get(prefix ?? "");
  if (forced) return forced(path!, options);
  const kind = shardKind(given);
  const about = await stat(given).catch(() => null);
  if (about?.isDirectory()) return openFolder(given, options);
  if (kind) return openShards(kind, [given], options);
  if (listEndings.some((ending) => given.toLowerCase().endsWith(ending))) return FileList.open(given);
  const name = resolve(given);
  if (!about) throw new UnknownDataError(`there is no folder or file ${name}\n${imageForms}`);
  if (isImageName(given)) throw new UnknownDataError(`${name} is one image; give the folder that it is in, or a list\n${imageForms}`);
  throw new UnknownDataError(`${name} is none of the known kinds of data sets by its name\n${imageForms}`);
}

async function openFolder(folder: string, options: OpenImagesOptions): Promise<Images> {
  if (await Cifar.recognise(folder)) return Cifar.open(folder, ownSplit(options));
  if (await Flowers102.recognise(folder)) return Flowers102.open(folder, ownSplit(options));
  if (await OxfordPets.recognise(folder)) return OxfordPets.open(folder, ownSplit(options));
  const shards = await findShards(folder, options.split);
  if (shards) return openShards(shards.kind, shards.files, options);
  try {
    return await openFolderOfImages(folder, options);
  } catch (error) {
    if (error instanceof ImageFolderError) throw new ImageFolderError(`${error.message}\n${imageForms}`, { cause: error });
    throw error;
  }
}

/** What kind of shards a name tells; it may have braces or hold several names. */
function shardKind(given: string): "tar" | "parquet" | null {
  const name = given.toLowerCase();
  if (name.startsWith("pipe:") || tarEndings.some((ending) => name.endsWith(ending))) return "tar";
  return name.endsWith(".parquet") ? "parquet" : null;
}

function openShards(kind: "tar" | "parquet", files: readonly string[], options: OpenImagesOptions): Promise<Images> {
  return kind === "tar" ? WebDataset.open(files, shardOptions(options)) : ParquetImages.open(files, shardOptions(options));
}

function shardOptions({ length, shuffleBuffer }: OpenImagesOptions): { length?: number; shuffleBuffer?: number } {
  return { ...(length !== undefined && { length }), ...(shuffleBuffer !== undefined && { shuffleBuffer }) };
}

function openFolderOfImages(path: string, { split }: OpenImagesOptions): Promise<ImageFolder> {
  return ImageFolder.open(path, split === undefined ? {} : { split });
}

async function openCifar(title: Cifar["title"], folder: string, options: OpenImagesOptions): Promise<Cifar> {
  const cifar = await Cifar.open(folder, ownSplit(options));
  if (cifar.title !== title) throw new UnknownDataError(`${cifar.root} holds ${cifar.title}, not ${title}`);
  return cifar;
}

/** The split in the type of any of the data sets: each says itself which it has. */
function ownSplit({ split }: OpenImagesOptions): { split?: never } {
  return split === undefined ? {} : { split: split as never };
}
